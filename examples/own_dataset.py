#!/usr/bin/env python
"""A dataset of your own: COCO's instance annotations and a folder of semantic PNGs, registered and trained on.

    python tools/make_shapes.py
    python examples/own_dataset.py --config-file examples/own_dataset.yaml

The files of ``shapes`` stand for yours here: change the names, the classes and the paths, and leave out the labels that
you do not have. The same keys in a YAML file, whose path stands in DATASETS.TRAIN, need no script.
"""

from mtl_d2.data import register_multitask_dataset
from mtl_d2.engine import main

for split in ("train", "val"):
    register_multitask_dataset(
        f"own_{split}",
        images="shapes/images",  # below $DETECTRON2_DATASETS
        instances=f"shapes/instances_{split}.json",
        thing_classes=["ellipse", "bar", "ring", "cross"],  # in the order of the network; those of the json by default
        semantic={
            "folder": "shapes/semantic",
            "classes": ["things", "water", "sand", "gravel"],  # by id in the PNGs, where 255 is void
            "stuff": ["water", "sand", "gravel"],  # the others stand for things
        },
        edges={"derive": "union"},  # the outlines of instances and the borders between semantic classes
    )

if __name__ == "__main__":
    main()
