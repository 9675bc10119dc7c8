"""Toy datasets for the evaluators: records are given, the dataset is registered for the time of one test."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image


def annotation(mask: np.ndarray, category_id: int = 0, iscrowd: int = 0) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "bbox": mask_util.toBbox(rle).tolist(),
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category_id,
        "segmentation": rle,
        "iscrowd": iscrowd,
    }


def rectangle(height: int, width: int, *box: int) -> np.ndarray:
    """A mask of box = (top, left, bottom, right), pixels, ends excluded."""
    top, left, bottom, right = box
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def register() -> Iterator[Callable[..., str]]:
    """register(records, **metadata) -> name of a dataset that is removed after the test."""
    names = []

    def _register(records: list[dict[str, Any]], **metadata: Any) -> str:
        name = f"toy_{uuid.uuid4().hex}"
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(**metadata)
        names.append(name)
        return name

    yield _register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def save_label(tmp_path: Path) -> Callable[[np.ndarray], str]:
    """save_label(semantic map) -> path of its PNG."""

    def _save(label: np.ndarray) -> str:
        path = tmp_path / f"{uuid.uuid4().hex}.png"
        Image.fromarray(label.astype(np.uint8)).save(path)
        return str(path)

    return _save
