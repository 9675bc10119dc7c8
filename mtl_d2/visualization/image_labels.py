"""Labels of a whole image as a cell, and as a line over a frame. Images are RGB, uint8."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata

from ..structures.image_labels import image_label_source
from .canvas import BLACK, WHITE, Color, paste, text_tile

ROW_HEIGHT, MARGIN = 22, 8
LIKELY, UNLIKELY, UNKNOWN_COLOR = (165, 205, 240), (232, 232, 232), (205, 205, 205)


def name_image_labels(metadata: Metadata, source: str) -> Metadata:
    """A copy of a dataset's metadata whose ``image_label_classes`` are those of what the labels are made from.

    Args:
        metadata: of a dataset.
        source: ``INPUT.MTL.IMAGE_LABELS``.
    """
    fields = {key: value for key, value in metadata.as_dict().items() if key != "name"}
    names = fields.get(image_label_source(source).classes)
    return Metadata().set(**{**fields, "image_label_classes": list(names or ())})


def draw_image_labels(
    size: tuple[int, int], values: Any, metadata: Metadata, *, scores: bool, threshold: float = 0.5
) -> np.ndarray:
    """A line for each class, the likeliest first, with a bar as long as its probability; as many as fit.

    Args:
        size: (height, width) in pixels.
        values: (K,) probabilities; or labels, of which those that are 1 are drawn, and those below 0 as unknown.
        metadata: with ``image_label_classes``; without K of them, classes have numbers.
        scores: whether these are probabilities.
        threshold: bars from this probability on are blue.
    """
    found = np.asarray(values, np.float32)
    cell = np.full((*size, 3), 255, dtype=np.uint8)
    lines = _score_lines(found, metadata, threshold) if scores else _label_lines(found, metadata)
    room = max(1, (size[0] - 2 * MARGIN) // ROW_HEIGHT)
    for row, (text, color, share) in enumerate(lines[:room]):
        last = row == room - 1 and len(lines) > room
        top = MARGIN + row * ROW_HEIGHT
        if not last:
            width = max(2, round((size[1] - 2 * MARGIN) * share))
            cell[top : top + ROW_HEIGHT - 4, MARGIN : MARGIN + width] = color
        _write(cell, f"and {len(lines) - row} more" if last else text, MARGIN + 4, top)
    return cell


def draw_caption(canvas: np.ndarray, values: Any, metadata: Metadata, threshold: float = 0.5) -> None:
    """Write the likely classes with their probabilities into the upper left corner, in place; see above."""
    found = np.asarray(values, np.float32)
    lines = [text for text, _, share in _score_lines(found, metadata, threshold) if share >= threshold]
    if lines:
        paste(canvas, text_tile(", ".join(lines), WHITE, BLACK, 12), 0, 0)


def image_class_names(metadata: Metadata, count: int) -> Sequence[str]:
    """Names of ``count`` classes."""
    names = metadata.get("image_label_classes", None) or ()
    return names if len(names) == count else [f"class {i}" for i in range(count)]


def _score_lines(values: np.ndarray, metadata: Metadata, threshold: float) -> list[tuple[str, Color, float]]:
    names, shares = image_class_names(metadata, len(values)), np.clip(np.nan_to_num(values), 0, 1).tolist()
    order = np.argsort(-values, kind="stable").tolist()
    return [(f"{names[k]} {values[k]:.2f}", LIKELY if shares[k] >= threshold else UNLIKELY, shares[k]) for k in order]


def _label_lines(values: np.ndarray, metadata: Metadata) -> list[tuple[str, Color, float]]:
    names = image_class_names(metadata, len(values))
    present = [(names[k], LIKELY, 1.0) for k in np.flatnonzero(values == 1).tolist()]
    unknown = [(f"{names[k]} (unknown)", UNKNOWN_COLOR, 1.0) for k in np.flatnonzero(values < 0).tolist()]
    return [*present, *unknown] or [("none", WHITE, 0.0)]


def _write(cell: np.ndarray, text: str, left: int, top: int) -> None:
    """Dark letters on what is there: a tile of its own background would hide where the bar ends."""
    tile = text_tile(text, BLACK, WHITE, 12)
    where = cell[top : top + tile.shape[0], left : left + tile.shape[1]]
    where[:] = np.minimum(where, tile[: where.shape[0], : where.shape[1]])
