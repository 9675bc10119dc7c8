"""Keypoints on an image, by Detectron2's Visualizer."""

import cv2
import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.utils.visualizer import Visualizer
from torch import Tensor

from mtl_d2.visualization.canvas import scaled_size


def draw_keypoints(image: np.ndarray, scale: float, keypoints: Tensor, metadata: Metadata) -> np.ndarray:
    """Keypoints as dots, and lines between them by the metadata's keypoint_connection_rules.

    Args:
        image: (H, W, 3), uint8, RGB.
        scale: from the image to the picture.
        keypoints: (N, K, 3): x, y in pixels of the image; the third above 0.05, a score or a visibility, is drawn.
    """
    visualizer = Visualizer(image, metadata, scale=scale)
    for points in keypoints.cpu():
        visualizer.draw_and_connect_keypoints(points)
    picture = visualizer.get_output().get_image()  # its size may differ by a pixel
    return cv2.resize(picture, scaled_size(image, scale), interpolation=cv2.INTER_AREA)
