"""COCO run lengths (RLE) decoded within a mask's own box; pycocotools decodes whole frames, whatever is in them."""

from typing import Any

import numpy as np

from .box_masks import BoxMask


def decode_rle(rle: dict[str, Any]) -> BoxMask:
    """The tight box of a mask, and its pixels, equal to those of ``pycocotools.mask.decode``.

    Args:
        rle: compressed: {"size": [H, W], "counts": bytes or str}.
    """
    height = rle["size"][0]
    ends = np.cumsum(run_lengths(rle["counts"]))
    starts, stops = ends[: len(ends) // 2 * 2 : 2], ends[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return BoxMask(0, 0, np.zeros((0, 0), bool))
    # Runs go down the columns, from one into the next.
    columns, rows = np.divmod(starts, height)
    left, right = int(columns[0]), int((stops[-1] - 1) // height) + 1
    if (stops - starts + rows > height).any():
        top, bottom = 0, height
    else:
        top, bottom = int(rows.min()), int((rows + stops - starts).max())
    in_box = (columns - left) * (bottom - top) + rows - top
    changes = np.stack([in_box, in_box + stops - starts], axis=1).reshape(-1)
    area = (right - left) * (bottom - top)
    runs = np.diff(changes, prepend=0, append=area)
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return BoxMask(top, left, np.ascontiguousarray(pixels.reshape(right - left, bottom - top).T))


def run_lengths(counts: bytes | str) -> np.ndarray:
    """Lengths of the runs of zeros and of ones in turn, the first of zeros.

    Each is a number in groups of five bits, the lowest first, in characters from 48 on; bit 5 says that another group
    follows, bit 4 of the last one is the sign. From the fourth on it is the difference to the last run but one.
    """
    codes = np.frombuffer(counts.encode() if isinstance(counts, str) else counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    groups = last - first + 1
    shifts = 5 * (np.arange(len(codes)) - np.repeat(first, groups))
    lengths = np.add.reduceat((codes & 31) << shifts, first)
    lengths -= (codes[last] >> 4 & 1) << (5 * groups)
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths
