"""Binary masks kept within their own boxes, where N x H x W pixels would not fit into memory."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np


class BoxMask(NamedTuple):
    """The part of a mask inside a box of the image, which holds every pixel of the mask.

    Attributes:
        top, left: corner of the box in pixels.
        pixels: (h, w) bool; both 0 for a mask without a pixel.
    """

    top: int
    left: int
    pixels: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box in the image."""
        height, width = self.pixels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.pixels))


class BoxMasks:
    """The masks of N instances of one image, indexed like a tensor of shape (N, H, W).

    Args:
        masks: N masks.
        size: H and W of the image in pixels.
    """

    def __init__(self, masks: Sequence[BoxMask], size: tuple[int, int]) -> None:
        self.masks = list(masks)
        self.size = size

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, item: Any) -> "BoxMasks":
        """Those at an index, a slice, or a vector of indices or of booleans (array or tensor)."""
        chosen = np.atleast_1d(np.arange(len(self))[item if isinstance(item, slice) else np.asarray(item)])
        return BoxMasks([self.masks[i] for i in chosen], self.size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Full frames, (H, W) bool, one at a time."""
        for mask in self.masks:
            yield draw_masks([mask], self.size)[0]


def crop_mask(frame: np.ndarray, top: int = 0, left: int = 0) -> BoxMask:
    """A mask (h, w) bool within the tightest box; its first pixel lies at (top, left) of the image."""
    rows = np.flatnonzero(frame.any(axis=1))
    if not len(rows):
        return BoxMask(top, left, np.zeros((0, 0), bool))
    y0, y1 = rows[0], rows[-1] + 1
    columns = np.flatnonzero(frame[y0:y1].any(axis=0))
    x0, x1 = columns[0], columns[-1] + 1
    return BoxMask(top + int(y0), left + int(x0), frame[y0:y1, x0:x1].copy())


def draw_masks(masks: Sequence[BoxMask], size: tuple[int, int]) -> np.ndarray:
    """Return full frames, (N, H, W) bool."""
    frames = np.zeros((len(masks), *size), bool)
    for frame, mask in zip(frames, masks, strict=True):
        frame[mask.window] = mask.pixels
    return frames


def clip_mask(mask: BoxMask, window: tuple[slice, slice]) -> BoxMask:
    """The part of a mask in a window of the image (slices with start and stop)."""
    (y0, y1), (x0, x1) = (_common(a, b) for a, b in zip(mask.window, window, strict=True))
    return BoxMask(y0, x0, mask.pixels[y0 - mask.top : y1 - mask.top, x0 - mask.left : x1 - mask.left])


def intersection_area(first: BoxMask, second: BoxMask) -> int:
    """The number of pixels that are in both masks."""
    part, other = clip_mask(first, second.window), clip_mask(second, first.window)
    return int(np.count_nonzero(part.pixels & other.pixels))


def union_mask(masks: Sequence[BoxMask]) -> BoxMask:
    """The pixels that are in any of the masks."""
    filled = [mask for mask in masks if mask.pixels.size]
    if not filled:
        return masks[0]
    windows = [mask.window for mask in filled]
    top, left = (min(window[axis].start for window in windows) for axis in (0, 1))
    bottom, right = (max(window[axis].stop for window in windows) for axis in (0, 1))
    pixels = np.zeros((bottom - top, right - left), bool)
    for mask, (rows, columns) in zip(filled, windows, strict=True):
        pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= mask.pixels
    return BoxMask(top, left, pixels)


def _common(first: slice, second: slice) -> tuple[int, int]:
    start = max(first.start, second.start)
    return start, max(start, min(first.stop, second.stop))
