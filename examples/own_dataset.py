#!/usr/bin/env python
"""A dataset of your own: COCO's instance annotations and a folder of semantic PNGs, registered and trained on.

    python tools/make_shapes.py
    python examples/own_dataset.py --config-file examples/own_dataset.yaml

The files of ``shapes`` stand for yours here: change the names, the classes and the paths.
"""

from mtl_d2.data import DatasetSchema, register_coco_multitask
from mtl_d2.data.datasets import datasets_root
from mtl_d2.engine import main

ROOT = datasets_root() / "shapes"  # below $DETECTRON2_DATASETS
SCHEMA = DatasetSchema(
    thing_classes=["ellipse", "bar", "ring", "cross"],  # by ascending category id of the json
    stuff_classes=["things", "water", "sand", "gravel"],  # by id in the PNGs, where 255 is void
    stuff_ids=[1, 2, 3],  # the others stand for things
    edge_source="union",  # edges are the outlines of instances and the borders between semantic classes
)

for split in ("train", "val"):
    register_coco_multitask(
        f"own_{split}", SCHEMA, ROOT / f"instances_{split}.json", ROOT / "images", ROOT / "semantic"
    )

if __name__ == "__main__":
    main()
