"""Checks of one annotation's box and mask against its image: of what would end a run in the middle."""

from collections.abc import Sequence

import numpy as np
from detectron2.structures import BoxMode

from .schema import DatasetError

_LONGEST = 12  # characters of a run length in a compressed RLE: far above any image


def check_geometry(annotation: dict, size: tuple[int, int], where: str) -> None:
    """Refuse a box outside of the image, a mask without an outline, and an RLE of another number of pixels.

    A box that lies inside in part is fine: the mapper clips it. So is one without an area, which the mapper drops.

    Args:
        annotation: with ``bbox``, ``bbox_mode`` and, optionally, ``segmentation`` of the right types.
        size: height and width of the image in pixels.
        where: the annotation, for messages.

    Raises:
        DatasetError: see above.
    """
    height, width = size
    x0, y0, x1, y1 = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    if x1 > x0 and y1 > y0 and (x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0):
        raise DatasetError(
            f"{where}: 'bbox': found {list(annotation['bbox'])}, which lies outside of the image, expected a box in "
            f"{width}x{height} pixels; correct it, or remove the annotation."
        )
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        pixels = rle_pixels(segmentation["counts"])
        if pixels != height * width:
            found = "broken run lengths" if pixels is None else f"run lengths of {pixels} pixels"
            raise DatasetError(
                f"{where}: 'segmentation': found an RLE with {found}, expected {height * width}, those of the image; "
                "encode the mask again."
            )
    elif isinstance(segmentation, list):
        if not segmentation:
            raise DatasetError(
                f"{where}: 'segmentation': found no polygon, expected one or more; leave the key out for a box without "
                "a mask."
            )
        if not all(np.isfinite(sum(polygon)) for polygon in segmentation):
            raise DatasetError(f"{where}: 'segmentation': found a coordinate that is no number; correct it.")


def rle_pixels(counts: str | bytes | Sequence[int]) -> int | None:
    """The number of pixels that an RLE covers, mask and background; None where it is broken.

    Args:
        counts: run lengths as numbers, or as COCO's text (``rleToString`` in its ``maskApi.c``): groups of 5 bits per
            character, the lowest first; from the fourth on each is the difference to the one before the last.
    """
    if isinstance(counts, str | bytes):
        lengths = _decompress(counts.encode() if isinstance(counts, str) else counts)
    else:
        lengths = np.asarray(counts)
        if lengths.dtype.kind not in "iu" or lengths.ndim != 1:
            return None
    return None if lengths is None or (lengths < 0).any() else int(lengths.sum())


def _decompress(text: bytes) -> np.ndarray | None:
    characters = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    is_last = (characters & 32) == 0
    if not len(characters) or not is_last[-1] or characters.min() < 0 or characters.max() > 63:
        return None
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > _LONGEST:
        return None
    shifts = 5 * (np.arange(len(characters)) - np.repeat(starts, sizes))
    values = np.add.reduceat((characters & 31) << shifts, starts)
    values -= np.where(characters[ends] & 16, 1 << (5 * sizes), 0)  # the sign bit
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
