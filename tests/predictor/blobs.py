"""A stand-in for a network, whose answers about a pixel depend on what is around it alone; and scenes for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from scipy import ndimage

VALUES = (100, 200)  # of the classes in the first channel
RADIUS = 4  # the stand-in sees so far


def draw_scene(size: tuple[int, int], ellipses: Sequence[tuple[int, int, int, int, int]]) -> np.ndarray:
    """(H, W, 3) uint8 with a filled ellipse for each (class, y, x, half height, half width)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.zeros((*size, 3), np.uint8)
    image[..., 1] = np.random.default_rng(0).integers(0, 255, size)
    for category, y, x, half_height, half_width in ellipses:
        inside = ((rows - y) / half_height) ** 2 + ((columns - x) / half_width) ** 2 <= 1
        image[..., 0][inside] = VALUES[category]
    return image


def answer(images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Each run of pixels of one class is an instance; dense answers are means over what is near."""
    return [_answer(image) for image in images]


def _answer(image: np.ndarray) -> dict[str, Any]:
    near = [ndimage.uniform_filter(image[..., c].astype(np.float32), 2 * RADIUS + 1, mode="constant") for c in range(3)]
    return {
        "instances": _instances(image[..., 0]),
        "sem_seg": torch.from_numpy(np.stack(near)),
        "edge": torch.from_numpy(near[1] / 255),
    }


def _instances(channel: np.ndarray) -> Instances:
    masks, boxes, classes = [], [], []
    for category, value in enumerate(VALUES):
        labels, _ = ndimage.label(channel == value)
        for index, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
            masks.append(labels == index)
            boxes.append([columns.start, rows.start, columns.stop, rows.stop])
            classes.append(category)
    instances = Instances(channel.shape)
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.linspace(0.9, 0.6, len(boxes))
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    instances.pred_masks = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *channel.shape), bool))
    return instances


def mask_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(N, M) IoU of masks (N, H, W) and (M, H, W)."""
    a, b = first.flatten(1).float(), second.flatten(1).float()
    common = a @ b.T
    return common / (a.sum(1)[:, None] + b.sum(1)[None] - common)
