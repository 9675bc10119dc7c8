"""COCO 2017 with instances and the semantic PNGs of Detectron2's Panoptic FPN; and its persons with keypoints.

The layout is that of Detectron2's coco_2017_train_panoptic_separated; the PNGs (0 things, 1-53 stuff, 255
void) are written by Detectron2's ``datasets/prepare_panoptic_fpn.py``.
"""

from pathlib import Path

from detectron2.data.datasets.builtin_meta import (
    COCO_CATEGORIES,
    COCO_PERSON_KEYPOINT_FLIP_MAP,
    COCO_PERSON_KEYPOINT_NAMES,
    KEYPOINT_CONNECTION_RULES,
)

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
PERSON_SCHEMA = DatasetSchema(
    thing_classes=["person"],
    keypoint_names=COCO_PERSON_KEYPOINT_NAMES,
    keypoint_flip_map=COCO_PERSON_KEYPOINT_FLIP_MAP,
    keypoint_connection_rules=KEYPOINT_CONNECTION_RULES,
    thing_dataset_id_to_contiguous_id={1: 0},
    thing_colors=[_THINGS[0]["color"]],
)


def register(root: Path, *, replace: bool = False) -> None:
    """Register coco_2017_{train,val}_mtl, and keypoints_coco_2017_{train,val}_mtl of persons, under ``root``/coco."""
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
        register_coco_multitask(
            f"keypoints_coco_2017_{split}_mtl",
            PERSON_SCHEMA,
            folder / "annotations" / f"person_keypoints_{split}2017.json",
            folder / f"{split}2017",
            replace=replace,
        )
