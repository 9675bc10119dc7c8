"""Answers about an image that is larger than memory allows, from overlapping tiles."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .bands import BlendedMap, keep_channel, keep_half_channel, keep_labels, keep_logits
from .detections import read_detections, to_instances
from .merge import Detection, merge_detections
from .network_input import Size
from .tiling import Axis, Tiling

Answer = Callable[[Sequence[np.ndarray]], list[dict[str, Any]]]

_DENSE = {  # answer -> what is kept of it in the full and in the compact form
    "sem_seg": (keep_logits, keep_labels),
    "edge": (keep_channel, keep_half_channel),
}
TILED_ANSWERS = (*_DENSE, "instances", "image_labels")


def predict_tiled(
    image: np.ndarray,
    answer: Answer,
    tiling: Tiling,
    *,
    batch_size: int = 1,
    compact: bool = False,
    max_mask_bytes: int = 2**33,
    nms_threshold: float = 0.5,
) -> dict[str, Any]:
    """Dense answers blended, instances merged; see :mod:`~.tiling`, :mod:`~.bands` and :mod:`~.merge`.

    Of image labels the largest probability stays: a class is in the image where it is in one of its tiles.

    Args:
        image: (H, W, C).
        answer: maps tiles, views of the image, to answers at their resolution: dicts with any of "instances",
            "sem_seg", "edge" and "image_labels"; other keys are left out.
        batch_size: tiles that ``answer`` gets at a time.
        compact: "sem_seg" as labels (H, W) uint8 and "edge" as float16, instead of logits (K, H, W) and float32.
        max_mask_bytes: above, instances have ``pred_box_masks`` instead of ``pred_masks``.
        nms_threshold: see ``merge_detections``.

    Returns:
        ``{key: answer about the image}``.
    """
    size: Size = image.shape[:2]
    axes = (tiling.axis(size[0]), tiling.axis(size[1]))
    parts = _Parts(tiling, size, compact)
    with tqdm(total=len(axes[0]) * len(axes[1]), unit="tile", leave=False, disable=None) as progress:
        for i, (top, bottom) in enumerate(axes[0].spans):
            for first in range(0, len(axes[1]), batch_size):
                spans = axes[1].spans[first : first + batch_size]
                for j, found in enumerate(answer([image[top:bottom, left:right] for left, right in spans]), first):
                    parts.add(found, axes, (i, j))
                progress.update(len(spans))
            parts.finish_rows(axes[0].starts[i + 1] if i + 1 < len(axes[0]) else size[0])
    result: dict[str, Any] = {key: blended.values for key, blended in parts.dense.items()}
    if parts.image_labels is not None:
        result["image_labels"] = parts.image_labels
    if parts.detections is not None:
        tiles = [(slice(*rows), slice(*columns)) for rows in axes[0].spans for columns in axes[1].spans]
        merged = merge_detections(parts.detections, tiles, nms_threshold=nms_threshold)
        result["instances"] = to_instances(merged, size, parts.has_masks, max_mask_bytes, parts.num_keypoints)
    return result


class _Parts:
    """What the tiles have said so far."""

    def __init__(self, tiling: Tiling, size: Size, compact: bool) -> None:
        self.tiling, self.size, self.compact = tiling, size, compact
        self.dense: dict[str, BlendedMap] = {}
        self.detections: list[Detection] | None = None
        self.has_masks = False
        self.image_labels: Tensor | None = None
        self.num_keypoints = 0

    def add(self, found: dict[str, Any], axes: tuple[Axis, Axis], position: tuple[int, int]) -> None:
        (rows, columns), (i, j) = axes, position
        for key in _DENSE.keys() & found.keys():
            if key not in self.dense:
                self.dense[key] = BlendedMap(self.tiling.tile, self.size, _DENSE[key][self.compact])
            values = found[key] if found[key].dim() == 3 else found[key][None]
            self.dense[key].add(values, columns.starts[j], rows.weights[i], columns.weights[j])
        if "image_labels" in found:
            labels = found["image_labels"]
            self.image_labels = labels if self.image_labels is None else torch.maximum(self.image_labels, labels)
        if "instances" in found:
            self.has_masks = found["instances"].has("pred_masks")
            if found["instances"].has("pred_keypoints"):
                self.num_keypoints = found["instances"].pred_keypoints.shape[1]
            self.detections = self.detections or []
            self.detections += read_detections(found["instances"], self.tiling, axes, position)

    def finish_rows(self, end: int) -> None:
        for blended in self.dense.values():
            blended.finish_rows(end)
