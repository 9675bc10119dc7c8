"""What the mapper feeds the network: image and labels as they lie in its result, nothing derived again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import convert_image_to_rgb

from mtl_d2.visualization.canvas import drawing_scale, scaled_size
from mtl_d2.visualization.cells import draw_note, resize_image
from mtl_d2.visualization.labels import Labels
from mtl_d2.visualization.panel import Cell, draw_row, label_cells, legend_cell

NO_LABEL = "no label"
_TITLES = {
    "instances": "Labelled instances",
    "keypoints": "Labelled keypoints",
    "sem_seg": "Labelled semantics",
    "edge": "Labelled edges",
    "image_labels": "Labelled classes",
}


def draw_samples(
    samples: Sequence[tuple[str, dict[str, Any]]],
    metadata: Metadata,
    *,
    label_keys: Sequence[str],
    image_format: str = "BGR",
) -> np.ndarray:
    """One row a sample: the input, each label as a cell, and in the first row the names of the semantic classes.

    Args:
        samples: title, and the result of MultiTaskDatasetMapper in training, of one image; each is drawn at the size
            that it has there.
        metadata: the dataset's: class names, and colours where it has them.
        label_keys: "instances", "sem_seg", "edge", "image_labels": a cell says so where a sample lacks one of them.
        image_format: the mapper's.

    Returns:
        RGB, uint8.
    """
    rows = [_cells(title, sample, metadata, label_keys, image_format) for title, sample in samples]
    maps = [np.ravel(sample["sem_seg"]) for _, sample in samples if "sem_seg" in sample]
    pictures = [cell[1] for row in rows for cell in row if cell]
    legend = legend_cell(pictures[0], 1, {}, {"sem_seg": np.concatenate(maps)} if maps else {}, metadata)
    if legend:
        rows = [[*row, legend if index == 0 else None] for index, row in enumerate(rows)]
    height, width = max(p.shape[0] for p in pictures), max(p.shape[1] for p in pictures)
    return np.concatenate([draw_row(row, height, width) for row in rows], axis=0)


def _cells(
    title: str, sample: dict[str, Any], metadata: Metadata, label_keys: Sequence[str], image_format: str
) -> list[Cell]:
    pixels = convert_image_to_rgb(sample["image"].permute(1, 2, 0), image_format)
    image = np.ascontiguousarray(np.clip(pixels, 0, 255).astype(np.uint8))
    scale = drawing_scale(*image.shape[:2])
    cells = label_cells(image, scale, _labels(sample), metadata)
    width, height = scaled_size(image, scale)
    for key in label_keys:
        note = "no picture for this label" if key in sample else NO_LABEL
        cells.setdefault(key, (_TITLES.get(key, key), draw_note((height, width), note)))
    size = f"{image.shape[1]} x {image.shape[0]} pixels"
    others = [key for key in cells if key not in label_keys]
    return [(f"{title}, {size}", resize_image(image, scale)), *(cells[key] for key in (*label_keys, *others))]


def _labels(sample: dict[str, Any]) -> Labels:
    """The sample in the form of ``read_labels``."""
    return {**sample, **{key: sample[key].numpy() for key in ("sem_seg", "edge", "image_labels") if key in sample}}
