"""coco_mini: 37 COCO 2017 images with complete panoptic labels, for format, parity and overfitting checks."""

from pathlib import Path

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from mtl_d2.data.datasets.register import register_coco_multitask
from mtl_d2.data.schema import DatasetSchema

_THINGS = [c for c in COCO_CATEGORIES if c["isthing"]]
_SEMANTIC = _THINGS + [c for c in COCO_CATEGORIES if not c["isthing"]]  # ids 0-79 things, 80-132 stuff

SCHEMA = DatasetSchema(
    thing_classes=[c["name"] for c in _THINGS],
    stuff_classes=[c["name"] for c in _SEMANTIC],
    stuff_ids=range(len(_THINGS), len(_SEMANTIC)),
    edge_source="union",
    thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(_THINGS)},
    thing_colors=[c["color"] for c in _THINGS],
    stuff_colors=[c["color"] for c in _SEMANTIC],
)


def register(root: Path, *, replace: bool = False) -> None:
    """Register coco_mini_train and coco_mini_val, under ``root``/coco_mini."""
    folder = root / "coco_mini"
    for split in ("train", "val"):
        register_coco_multitask(
            f"coco_mini_{split}",
            SCHEMA,
            folder / f"instances_{split}.json",
            folder / "images",
            folder / "semantic",
            replace=replace,
        )
