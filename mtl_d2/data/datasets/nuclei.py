"""nuclei: 2018 Data Science Bowl stage 1 (BBBC038, CC0) in COCO form, one instance class."""

from pathlib import Path

from mtl_d2.data.datasets.register import register_coco_multitask
from mtl_d2.data.schema import DatasetSchema

SCHEMA = DatasetSchema(
    thing_classes=["nucleus"],
    stuff_classes=["background", "nucleus"],
    stuff_ids=[0],
    edge_source="instance",
    max_dets=400,  # up to 375 instances in an image
    thing_dataset_id_to_contiguous_id={1: 0},
)


def register(root: Path, *, replace: bool = False) -> None:
    """Register nuclei_train and nuclei_val, under ``root``/nuclei."""
    folder = root / "nuclei"
    for split in ("train", "val"):
        register_coco_multitask(
            f"nuclei_{split}",
            SCHEMA,
            folder / f"instances_{split}.json",
            folder / "images",
            folder / "semantic",
            replace=replace,
        )
