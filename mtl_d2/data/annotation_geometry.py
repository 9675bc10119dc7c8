"""Where boxes and masks lie, measured without drawing them; and what of it would end a run in the middle."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mtl_d2.structures.run_lengths import run_lengths

from .annotations import annotation_problems as _number_problems
from .annotations import box_corners, is_numbers, shorten
from .faults import Problem


def annotation_problems(annotation: dict[str, Any], size: tuple[int, int], num_classes: int) -> Iterator[Problem]:
    """All that makes an annotation useless: its numbers, a box outside of the image, an RLE of other pixels.

    A box that lies inside in part is fine: the mapper clips it. So is one without an area, which the mapper drops.

    Args:
        annotation: of Detectron2's form, with a contiguous ``category_id``.
        size: height and width of its image in pixels.
        num_classes: of the dataset's things.
    """
    problems = list(_number_problems(annotation, size, num_classes))
    yield from problems
    fields = {problem.field for problem in problems}
    if not fields & {"bbox", "bbox_mode"}:
        yield from _box_outside(annotation, size)
    if "segmentation" in annotation and "segmentation" not in fields:
        yield from _mask_useless(annotation["segmentation"], size)


def _box_outside(annotation: dict[str, Any], size: tuple[int, int]) -> Iterator[Problem]:
    (height, width), (x0, y0, x1, y1) = size, box_corners(annotation)
    if x1 > x0 and y1 > y0 and (x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0):
        found = f"{shorten(list(annotation['bbox']))}, which lies outside of the image"
        expected = f"a box in {width}x{height} pixels"
        yield Problem("box_outside", "bbox", found, expected, "correct it, or remove the annotation")


def _mask_useless(segmentation: list | dict[str, Any], size: tuple[int, int]) -> Iterator[Problem]:
    if not segmentation:
        fix = "leave the key out for a box without a mask"
        yield Problem("polygon", "segmentation", "no polygon", "one or more", fix)
    elif isinstance(segmentation, dict) and rle_counts(segmentation) is None:
        found = f"an RLE with broken run lengths, {shorten(segmentation['counts'], 30)}"
        expected = f"{size[0] * size[1]} pixels in all, those of the image"
        yield Problem("rle_counts", "segmentation", found, expected, "encode the mask again")


def rle_counts(rle: dict[str, Any]) -> np.ndarray | None:
    """Lengths of the runs of an RLE of COCO's, starting with zeros; None where they do not make up the image.

    pycocotools does not notice broken counts, or ends the process.

    Args:
        rle: "size" (height, width), and "counts" as a list, or compressed as str or bytes.
    """
    counts = rle["counts"]
    if isinstance(counts, str | bytes):
        lengths = _decompress(counts)
    else:
        lengths = np.asarray(counts) if is_numbers(counts) else None
    height, width = rle["size"]
    if lengths is None or lengths.dtype.kind not in "iu" or (lengths < 0).any() or lengths.sum() != height * width:
        return None
    return lengths.astype(np.int64)


def _decompress(text: str | bytes) -> np.ndarray | None:
    """The run lengths of compressed counts; None where they are none (see ``run_lengths`` for the format)."""
    try:
        codes = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        return None
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    characters = np.diff(np.flatnonzero(codes & 32 == 0), prepend=-1)
    if characters.max() > 7:  # 35 bits: more than any image has pixels
        return None
    return run_lengths(text)


def mask_box(segmentation: list | dict[str, Any], size: tuple[int, int]) -> np.ndarray | None:
    """The box around a mask, within the image; None for a mask without area, or counts that are broken.

    Args:
        segmentation: polygons or an RLE that ``segmentation_problems`` has nothing against.
        size: height and width of the image in pixels.

    Returns:
        (4,) XYXY in pixels; of polygons by their vertices.
    """
    if isinstance(segmentation, dict):
        lengths = rle_counts(segmentation)
        return None if lengths is None else runs_box(lengths, size[0])
    return polygons_box(segmentation, size)


def polygons_box(segmentation: list, size: tuple[int, int]) -> np.ndarray | None:
    if not segmentation or sum(polygon_area(polygon) for polygon in segmentation) < 1e-3:
        return None
    low, high = polygon_extent(segmentation)
    limit = np.array([size[1], size[0]], np.float64)
    low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
    return np.concatenate([low, high]) if (high > low).all() else None


def runs_box(lengths: np.ndarray, height: int) -> np.ndarray | None:
    ends = np.cumsum(lengths)
    starts = ends - lengths
    filled = np.flatnonzero(lengths[1::2]) * 2 + 1
    if not len(filled):
        return None
    (x0, y0), (x1, y1) = np.divmod(starts[filled], height), np.divmod(ends[filled] - 1, height)
    tall = bool((x0 != x1).any())  # a run into the next column covers the lower and the upper border
    top, bottom = (0, height) if tall else (y0.min(), y1.max() + 1)
    return np.array([x0.min(), top, x1.max() + 1, bottom], np.float64)


def polygon_area(polygon: list[float]) -> float:
    """Area in square pixels, by the shoelace formula."""
    x, y = np.asarray(polygon, np.float64).reshape(-1, 2).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def polygon_extent(polygons: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest (x, y) of all vertices."""
    points = np.concatenate([np.asarray(p, np.float64) for p in polygons]).reshape(-1, 2)
    return points.min(axis=0), points.max(axis=0)
