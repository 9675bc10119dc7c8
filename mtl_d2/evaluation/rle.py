"""Masks as COCO run lengths (RLE), and back."""

from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from mtl_d2.structures.box_masks import BoxMask, crop_mask

RLE = dict[str, Any]


def encode_mask(mask: np.ndarray) -> RLE:
    """A binary mask's compressed RLE, equal to ``pycocotools.mask.encode``.

    Only the mask's own bounding box is scanned column by column: COCO's order is column-major, and copying a
    whole row-major image into it costs more than all the rest.

    Args:
        mask: (H, W), bool.
    """
    return encode_box_mask(crop_mask(mask), mask.shape)


def encode_box_mask(mask: BoxMask, size: tuple[int, int]) -> RLE:
    """The compressed RLE, in an image of H x W pixels, of a mask that is kept within its box."""
    height, width = size
    top, left, pixels = mask
    if not pixels.size:
        return _compress([height * width], height, width)
    # A zero before and after every column, so that each run starts and ends in its own column.
    crop = np.zeros((pixels.shape[1], pixels.shape[0] + 2), dtype=np.int8)
    crop[:, 1:-1] = pixels.T
    column, row = np.nonzero(np.diff(crop, axis=1))
    changes = (column + left) * height + row + top
    if pixels.shape[0] == height:
        # A run that reaches the bottom goes on in the next column: its end and that start are the same place.
        joined = np.flatnonzero(changes[1:] == changes[:-1])
        changes = np.delete(changes, np.concatenate([joined, joined + 1]))
    counts = np.diff(changes, prepend=0, append=height * width)
    if counts[-1] == 0:
        counts = counts[:-1]
    return _compress(counts.tolist(), height, width)


def _compress(counts: list[int], height: int, width: int) -> RLE:
    return mask_util.frPyObjects({"counts": counts, "size": [height, width]}, height, width)


def to_rle(segmentation: list | RLE, height: int, width: int) -> RLE:
    """One compressed RLE of an annotation's segmentation: polygons, compressed or uncompressed RLE."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            return mask_util.frPyObjects(segmentation, height, width)
        return segmentation
    if not segmentation:  # no polygon left: an empty mask
        return _compress([height * width], height, width)
    return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))


def paint_mask(canvas: np.ndarray, rle: RLE, value: int) -> None:
    """Write ``value`` into the pixels of a mask, touching only the mask's own bounding box: canvas is (H, W)."""
    left, top, width, height = mask_util.toBbox(rle).astype(int)
    box = (slice(top, top + height), slice(left, left + width))
    canvas[box][mask_util.decode(rle)[box] > 0] = value
