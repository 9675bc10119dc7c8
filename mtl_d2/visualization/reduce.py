"""Answers about an image that is too large to be drawn, at a size that is not."""

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from mtl_d2.structures.box_masks import BoxMask, BoxMasks


def reduce_for_drawing(
    image: np.ndarray, prediction: dict[str, Any], long_side: int = 1024
) -> tuple[np.ndarray, dict[str, Any]]:
    """Image and prediction as ``draw_panel`` takes them, reduced so that the longer side is ``long_side`` pixels.

    Labels, masks and panoptic ids are sampled; of edges the strongest of the pixels that become one stays.
    """
    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return image, prediction
    size = max(1, round(height * scale)), max(1, round(width * scale))
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * full / n, full - 1).astype(int)
        for n, full in zip(size, (height, width), strict=True)
    )
    small: dict[str, Any] = {}
    if "instances" in prediction:
        small["instances"] = _reduce_instances(prediction["instances"], size, rows, columns)
    if "sem_seg" in prediction:
        sem_seg = prediction["sem_seg"].cpu().numpy()
        small["sem_seg"] = torch.from_numpy(sem_seg[..., rows[:, None], columns])
    if "edge" in prediction:
        small["edge"] = torch.from_numpy(_block_maximum(prediction["edge"].cpu().numpy(), size))
    if "panoptic_seg" in prediction:
        ids, segments = prediction["panoptic_seg"]
        small["panoptic_seg"] = torch.from_numpy(ids.cpu().numpy()[rows[:, None], columns]), segments
    if "image_labels" in prediction:
        small["image_labels"] = prediction["image_labels"]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), small


def _block_maximum(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    for axis, n in enumerate(size):
        starts = np.arange(n) * values.shape[axis] // n
        values = np.maximum.reduceat(values, starts, axis=axis)
    return values


def _reduce_instances(instances: Instances, size: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> Instances:
    instances = instances.to("cpu")
    height, width = instances.image_size
    factors = torch.tensor([size[1] / width, size[0] / height] * 2)
    small = Instances(size, scores=instances.scores, pred_classes=instances.pred_classes)
    small.pred_boxes = Boxes(instances.pred_boxes.tensor * factors)
    if instances.has("pred_masks"):
        masks = np.asarray(instances.pred_masks, dtype=bool)
        small.pred_masks = torch.from_numpy(
            np.stack([m[rows[:, None], columns] for m in masks]) if len(masks) else masks
        )
    elif instances.has("pred_box_masks"):
        small.pred_box_masks = BoxMasks([_sample(m, rows, columns) for m in instances.pred_box_masks.masks], size)
    if instances.has("pred_keypoints"):
        small.pred_keypoints = instances.pred_keypoints * torch.cat([factors[:2], torch.ones(1)])
    return small


def _sample(mask: BoxMask, rows: np.ndarray, columns: np.ndarray) -> BoxMask:
    """The mask's pixels at those rows and columns of the image, which rise."""
    (y0, y1), (x0, x1) = (
        np.searchsorted(index, (side.start, side.stop))
        for index, side in zip((rows, columns), mask.window, strict=True)
    )
    return BoxMask(int(y0), int(x0), mask.pixels[rows[y0:y1, None] - mask.top, columns[x0:x1] - mask.left])
