"""Instances of a tile in the image's pixels, and back."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from ..structures.box_masks import BoxMask, BoxMasks, crop_mask, draw_masks
from .merge import Detection
from .network_input import Size
from .tiling import Axis, Tiling

_CUT_MARGIN = 4  # pixels of the network's input, its finest stride: a box ends so near to what cuts it


def read_detections(
    instances: Instances, tiling: Tiling, axes: tuple[Axis, Axis], position: tuple[int, int]
) -> list[Detection]:
    """The instances of a tile, in the image.

    Args:
        instances: ``pred_boxes``, ``scores``, ``pred_classes`` and, where predicted, ``pred_masks`` and
            ``pred_keypoints`` of the tile.
        axes: of rows and of columns.
        position: of the tile, in tiles from the top and from the left.
    """
    offset = np.array([axis.starts[i] for axis, i in zip(axes, position, strict=True)])[::-1]
    boxes = instances.pred_boxes.tensor.numpy().astype(float) + np.tile(offset, 2)
    masks: Sequence[BoxMask | None] = [None] * len(instances)
    if instances.has("pred_masks"):
        masks = [crop_mask(mask, int(offset[1]), int(offset[0])) for mask in instances.pred_masks.numpy()]
    keypoints: Sequence[np.ndarray | None] = [None] * len(instances)
    if instances.has("pred_keypoints"):
        keypoints = [*(instances.pred_keypoints.numpy().astype(float) + np.array([*offset, 0]))]
    index = position[0] * len(axes[1]) + position[1]
    return [
        Detection(box, score, category, mask, (index,), _is_cut(box, tiling, axes, position), owned, points)
        for box, score, category, mask, owned, points in zip(
            boxes,
            instances.scores.tolist(),
            instances.pred_classes.tolist(),
            masks,
            [_is_owned(box, tiling, axes, position) for box in boxes],
            keypoints,
            strict=True,
        )
    ]


def to_instances(
    detections: Sequence[Detection], size: Size, with_masks: bool, max_mask_bytes: int, num_keypoints: int = 0
) -> Instances:
    """Detectron2's form; ``pred_box_masks`` instead of ``pred_masks`` where N * H * W is above the limit."""
    instances = Instances(size)
    boxes = np.stack([found.box for found in detections]) if detections else np.zeros((0, 4))
    instances.pred_boxes = Boxes(torch.from_numpy(boxes).float())
    instances.scores = torch.tensor([found.score for found in detections], dtype=torch.float32)
    instances.pred_classes = torch.tensor([found.category for found in detections], dtype=torch.int64)
    if num_keypoints:
        points = [found.keypoints for found in detections if found.keypoints is not None]
        instances.pred_keypoints = torch.from_numpy(np.array(points).reshape(-1, num_keypoints, 3)).float()
    masks = [found.mask for found in detections if found.mask is not None]
    if with_masks and len(masks) * size[0] * size[1] <= max_mask_bytes:
        instances.pred_masks = torch.from_numpy(draw_masks(masks, size))
    elif with_masks:
        instances.pred_box_masks = BoxMasks(masks, size)
    return instances


def _is_cut(box: np.ndarray, tiling: Tiling, axes: tuple[Axis, Axis], position: tuple[int, int]) -> bool:
    margin = _CUT_MARGIN * tiling.cell / tiling.stride
    for axis, i, low, high in zip(axes, position, box[1::-1], box[:1:-1], strict=True):
        if (i > 0 and low < axis.starts[i] + margin) or (i < len(axis) - 1 and high > axis.ends[i] - margin):
            return True
    return False


def _is_owned(box: np.ndarray, tiling: Tiling, axes: tuple[Axis, Axis], position: tuple[int, int]) -> bool:
    # Two tiles do not place a centre equally: with some tolerance both keep it, and NMS decides.
    tolerance = tiling.overlap / 8
    center = (box[:2] + box[2:])[::-1] / 2
    return all(
        axis.borders[i] - tolerance <= value <= axis.borders[i + 1] + tolerance
        for axis, i, value in zip(axes, position, center, strict=True)
    )
