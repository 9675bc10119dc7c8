"""Bands along the inner side of regions: what Boundary IoU compares.

"Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" (Cheng et al. 2021), section 4: of a mask and
its prediction only the pixels are compared that lie within a distance d of their own contour. The border of the image
belongs to the contour. Distances are those of d erosions by 3 x 3 pixels, as in the paper's own code.
"""

import cv2
import numpy as np

from .neighbourhood import differs_nearby, square

FRACTION = 0.02  # of the image's diagonal; the paper takes 0.005 on Cityscapes


def band_width(size: tuple[int, int], fraction: float = FRACTION) -> int:
    """Width of the band in pixels: that fraction of the diagonal, rounded (halves to even), at least 1.

    Args:
        size: H and W of the image.
    """
    return max(1, round(fraction * float(np.hypot(*size))))


def boundary_band(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask that ``width`` erosions take away.

    All that lies outside of the array counts as background, so that an array that is cut to the mask's own box gives
    the same band.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool.
    """
    padded = np.pad(mask.view(np.uint8), 1)
    inner = cv2.erode(padded, square(width))[1:-1, 1:-1]
    return mask & (inner == 0)


def label_bands(ids: np.ndarray, unknown: np.ndarray, width: int) -> np.ndarray:
    """The bands of all regions of a label map in one pass.

    A pixel is in the band of its own class where another class, or the outside of the image, is at most ``width``
    rows and columns away. Where the label is void nobody knows where a region ends: the border to void alone makes no
    band (our reading; the paper has no void).

    Args:
        ids: (H, W) integers.
        unknown: (H, W) bool, void.

    Returns:
        (H, W) bool, False at void.
    """
    # With room for one more id, which is that of the outside.
    dtype = np.uint8 if int(ids.max(initial=0)) < 255 else np.int64
    padded = np.pad(ids.astype(dtype), 1, constant_values=int(ids.max(initial=0)) + 1)
    return differs_nearby(padded, np.pad(unknown, 1), square(width))[1:-1, 1:-1]
