"""Images that look alike: a perceptual hash proposes pairs, thumbnails confirm them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ..faults import Fault

HAMMING = 8  # bits of 64
DIFFERENCE = 0.2  # root mean square difference of the thumbnails, in units of their contrast
_BLANK = 1.0  # grey values; below this contrast (standard deviation) a hash is noise
_ROWS = 256


class SeenImage(NamedTuple):
    """An image by its dataset, its file, and its (32, 32) uint8 grey thumbnail."""

    dataset: str
    file_name: str
    thumbnail: np.ndarray


def perceptual_hash(thumbnail: np.ndarray) -> np.ndarray:
    """64 bits: which of the 8 x 8 lowest frequencies lie above their median (the mean brightness is left out).

    C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), 3.2.1.

    Args:
        thumbnail: (32, 32) grey.

    Returns:
        (8,) uint8, the packed bits.
    """
    low = cv2.dct(thumbnail.astype(np.float32))[:8, :8].ravel()
    low[0] = 0
    return np.packbits(low > np.median(low[1:]))


def relative_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square difference of two thumbnails by the mean of their standard deviations; 0 for the same."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    contrast = max((a.std() + b.std()) / 2, _BLANK)
    return float(np.sqrt(np.mean((a - b) ** 2)) / contrast)


def near_duplicates(images: Sequence[SeenImage]) -> list[Fault]:
    """A warning for each pair of images that look alike; blank images are left out.

    Args:
        images: of one or several datasets. A file that two of them share is reported too.
    """
    images = [image for image in images if image.thumbnail.std() >= _BLANK]
    if not images:
        return []
    hashes = np.stack([perceptual_hash(image.thumbnail) for image in images])
    faults = []
    for i, j in _close_pairs(hashes):
        difference = relative_difference(images[i].thumbnail, images[j].thumbnail)
        if difference <= DIFFERENCE:
            faults.append(_fault(images[i], images[j], difference))
    return faults


def _close_pairs(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    # As signs, bits that agree add one to the product and others take one away.
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    for start in range(0, len(signs), _ROWS):
        agree = signs[start : start + _ROWS] @ signs[start:].T
        for i, j in np.argwhere(agree >= signs.shape[1] - 2 * HAMMING).tolist():
            if i < j:
                yield start + i, start + j


def _fault(first: SeenImage, second: SeenImage, difference: float) -> Fault:
    across = first.dataset != second.dataset
    of = f" of dataset '{second.dataset}'" if across else ""
    found = f"looks like {second.file_name}{of} (difference {difference:.2f})"
    fix = "keep both in one split, or the score is too good" if across else "remove one if they are the same"
    kind = "duplicate_across" if across else "duplicate_within"
    return Fault(first.file_name, "", kind, "file_name", found, "", fix, is_warning=True)
