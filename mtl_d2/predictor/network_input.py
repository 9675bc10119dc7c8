"""From 8-bit pixels to the network's input, resized as the test mapper of :mod:`mtl_d2.data` resizes."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T

Size = tuple[int, int]  # height, width


def find_test_size(augmentations: Sequence[T.Augmentation], size: Size) -> Size:
    """The height and width that an image has after the config's test-time resize.

    Args:
        augmentations: of ``build_augmentations(cfg, is_train=False)``.
        size: height and width of the image.
    """
    for augmentation in augmentations:
        # Only the shape is looked at: a view of one pixel takes no memory.
        transform = augmentation.get_transform(np.broadcast_to(np.uint8(0), (*size, 3)))
        if isinstance(transform, T.ResizeTransform):
            size = (transform.new_h, transform.new_w)
    return size


def make_input(image: np.ndarray, size: Size) -> dict[str, Any]:
    """A model input whose answers are at the image's own resolution.

    Args:
        image: (H, W, C) uint8, in the channel order of ``cfg.INPUT.FORMAT``.
        size: height and width that the network sees.
    """
    height, width = image.shape[:2]
    if size != (height, width):
        image = T.ResizeTransform(height, width, *size).apply_image(image)
    channels = cv2.split(image) if image.ndim == 3 else [image]
    return {"image": torch.from_numpy(np.stack(channels)), "height": height, "width": width}
