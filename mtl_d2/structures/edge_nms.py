"""Soft edge maps before they are scored: non-maximum suppression.

The suppression is that of Dollar and Zitnick, "Fast edge detection using structured forests", PAMI 2015, as
used for the BSDS benchmark. scipy rather than OpenCV, whose thread pool does not survive the fork of a
scoring process.
"""

import numpy as np
from scipy import ndimage

_HALF_LEVEL = 1 / 510  # half a step of an 8-bit map


def edge_nms(prob: np.ndarray, *, radius: int = 1, fade: int = 5, tolerance: float = 1.01) -> np.ndarray:
    """Keep a soft edge map where it is a maximum across the edge.

    The map is smoothed with a triangle filter of radius 1. The direction across the edge comes from the
    second derivatives of the smoothed map, smoothed again with radius 4. A pixel goes where ``tolerance``
    times its value is below an interpolated value within ``radius`` pixels on either side. Values fade to
    zero towards the border. Values that an 8-bit map could not hold (below 1/510) become zero.

    Args:
        prob: (H, W) in [0, 1].
        radius: pixels looked at on either side.
        fade: width of the border, in pixels, over which values fade linearly.
        tolerance: above 1, keeps lines two pixels wide where the neighbours are about equal.

    Returns:
        (H, W) float32 in [0, 1], smoothed values on ridges and zero elsewhere.
    """
    if prob.ndim != 2:
        raise ValueError(f"edge_nms takes an (H, W) map, found shape {prob.shape}.")
    smooth = triangle_smooth(prob.astype(np.float32), 1)
    if smooth.size == 0:
        return smooth
    rows, columns = np.nonzero(smooth >= _HALF_LEVEL)
    angle = _normal_angle(smooth, rows, columns)
    value = smooth[rows, columns]
    dx, dy = np.cos(angle), np.sin(angle)
    keep = np.ones(value.size, bool)
    for distance in range(-radius, radius + 1):
        if distance:
            beside = _interpolate(smooth, rows + distance * dy, columns + distance * dx)
            keep &= value * np.float32(tolerance) >= beside
    ridges = np.zeros_like(smooth)
    ridges[rows[keep], columns[keep]] = value[keep]
    return _fade_border(ridges, fade)


def triangle_smooth(image: np.ndarray, radius: int) -> np.ndarray:
    """Separable triangle filter of the given radius in pixels; the border is mirrored."""
    ramp = np.arange(1, radius + 2, dtype=np.float32)
    kernel = np.concatenate([ramp, ramp[-2::-1]]) / np.float32((radius + 1) ** 2)
    return ndimage.correlate1d(ndimage.correlate1d(image, kernel, axis=0), kernel, axis=1)


def _normal_angle(smooth: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    blurred = triangle_smooth(smooth, 4)
    by_x, by_y = _derivative(blurred, 1), _derivative(blurred, 0)
    xx = _derivative(by_x, 1)[rows, columns]
    xy = _derivative(by_y, 1)[rows, columns]
    yy = _derivative(by_y, 0)[rows, columns]
    # The original's sign(-xy) is 0 on an exactly horizontal edge, which turns its normal by 90 degrees:
    # take 1.
    sign = np.where(xy > 0, np.float32(-1), np.float32(1))
    return np.mod(np.arctan(yy * sign / (xx + np.float32(1e-5))), np.float32(np.pi))


def _derivative(image: np.ndarray, axis: int) -> np.ndarray:
    if image.shape[axis] < 2:  # np.gradient refuses a single row
        return np.zeros_like(image)
    return np.gradient(image, axis=axis)


def _interpolate(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear, with coordinates clamped to the image."""
    height, width = image.shape
    y, x = np.clip(y, 0, max(height - 1.001, 0)), np.clip(x, 0, max(width - 1.001, 0))
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, across = (y - top).astype(np.float32), (x - left).astype(np.float32)
    flat = image.reshape(-1)
    corner = top * width + left
    right, below = (1 if width > 1 else 0), (width if height > 1 else 0)
    upper = flat[corner] * (1 - across) + flat[corner + right] * across
    lower = flat[corner + below] * (1 - across) + flat[corner + below + right] * across
    return upper * (1 - down) + lower * down


def _fade_border(image: np.ndarray, fade: int) -> np.ndarray:
    for axis, length in enumerate(image.shape):
        reach = min(fade, length // 2)
        if reach:
            ramp = np.ones(length, np.float32)
            ramp[:reach] = np.arange(reach) / reach
            ramp[-reach:] = ramp[:reach][::-1]
            image *= ramp[:, None] if axis == 0 else ramp
    return image
