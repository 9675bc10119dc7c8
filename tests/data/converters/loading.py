"""A converted split, read back as a user reads it, and one training step on it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from PIL import Image

from mtl_d2.data import DatasetSchema, build_multitask_train_loader, register_description, validate_records
from mtl_d2.testing import tiny_cfg


@contextmanager
def registered(description: Path) -> Iterator[str]:
    """Register a split by its description, and forget it at the end."""
    name = register_description(description)
    try:
        yield name
    finally:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


def load(description: Path) -> list[dict]:
    """The records, which pass every check of a dataset's files."""
    with registered(description) as name:
        records = DatasetCatalog.get(name)
        validate_records(records, DatasetSchema.from_metadata(MetadataCatalog.get(name)), check_files=True, name=name)
    return records


def train_one_step(description: Path, tasks: Sequence[str]) -> dict[str, float]:
    """Losses of one batch of the tiny network; the gradients have to be finite, and not all zero."""
    with registered(description) as name:
        cfg = tiny_cfg(tasks, name)
        metadata = MetadataCatalog.get(name)
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(metadata.get("thing_classes", [])) or 1
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(metadata.get("stuff_classes", [])) or 1
        batch = next(iter(build_multitask_train_loader(cfg)))
    torch.manual_seed(0)
    model = build_model(cfg)
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    assert any(g.abs().sum() > 0 for g in gradients)
    return {key: value.item() for key, value in losses.items()}


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photo(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
