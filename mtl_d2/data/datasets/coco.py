"""COCO 2017 with instances and the semantic PNGs of Detectron2's Panoptic FPN.

The layout is that of Detectron2's coco_2017_train_panoptic_separated; the PNGs (0 things, 1-53 stuff, 255
void) are written by Detectron2's ``datasets/prepare_panoptic_fpn.py``.
"""

from pathlib import Path

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from mtl_d2.data.datasets.register import register_coco_multitask
from mtl_d2.data.schema import DatasetSchema

_THINGS = [c for c in COCO_CATEGORIES if c["isthing"]]
_STUFF = [c for c in COCO_CATEGORIES if not c["isthing"]]

SCHEMA = DatasetSchema(
    thing_classes=[c["name"] for c in _THINGS],
    stuff_classes=["things"] + [c["name"].replace("-other", "").replace("-merged", "") for c in _STUFF],
    stuff_ids=range(1, len(_STUFF) + 1),
    edge_source="union",
    thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(_THINGS)},
    thing_colors=[c["color"] for c in _THINGS],
    stuff_colors=[[82, 18, 128]] + [c["color"] for c in _STUFF],
)


def register(root: Path, *, replace: bool = False) -> None:
    """Register coco_2017_train_mtl and coco_2017_val_mtl, under ``root``/coco."""
    folder = root / "coco"
    for split in ("train", "val"):
        register_coco_multitask(
            f"coco_2017_{split}_mtl",
            SCHEMA,
            folder / "annotations" / f"instances_{split}2017.json",
            folder / f"{split}2017",
            folder / f"panoptic_stuff_{split}2017",
            replace=replace,
        )
