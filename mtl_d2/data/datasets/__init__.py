"""Datasets of the project, one file per family."""

import os
from pathlib import Path

from mtl_d2.data.datasets import cityscapes, coco, coco_mini, nuclei, shapes
from mtl_d2.data.datasets.coco_format import load_coco_multitask
from mtl_d2.data.datasets.register import datasets_root, register_coco_multitask, register_dataset
from mtl_d2.data.datasets.register_description import (
    register_description,
    register_multitask_dataset,
    resolve_dataset,
    resolve_datasets,
)

FAMILIES = (shapes, nuclei, coco_mini, coco, cityscapes)


def register_all(root: str | os.PathLike | None = None) -> None:
    """Register every dataset of the project; nothing on disk is read.

    Args:
        root: folder of all datasets. None takes $DETECTRON2_DATASETS and leaves registered names as they are;
            a given one moves the project's datasets there.
    """
    for family in FAMILIES:
        family.register(datasets_root() if root is None else Path(root), replace=root is not None)


__all__ = [
    "datasets_root",
    "load_coco_multitask",
    "register_all",
    "register_coco_multitask",
    "register_dataset",
    "register_description",
    "register_multitask_dataset",
    "resolve_dataset",
    "resolve_datasets",
]
