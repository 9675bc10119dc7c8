"""Where masks lie, measured without drawing them; and how boxes agree with masks and images."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..annotations import annotation_problems, box_corners, is_numbers, shorten
from ..faults import Problem

BORDER = 1.0  # pixels that a box or a polygon may reach over the image: rounding
FIT = 2.0, 0.05  # pixels, or share of the box's longer side, by which a box may miss its mask


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
    # 5 bits a character, lowest first, 0x20: more follow, 0x10 of the last: negative; from the third run on the
    # difference to the run before the last.
    try:
        chars = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        return None
    if not len(chars) or chars.min() < 0 or chars.max() > 63 or chars[-1] & 32:
        return None
    last = np.flatnonzero(chars & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(chars)) - np.repeat(first, last - first + 1)
    if place.max() > 6:  # 35 bits: more than any image has pixels
        return None
    values = np.add.reduceat((chars & 31) << (5 * place), first)
    values -= np.where(chars[last] & 16, np.int64(1) << (5 * (last - first + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


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
        return None if lengths is None else _runs_box(lengths, size[0])
    return _polygons_box(segmentation, size)


def _polygons_box(segmentation: list, size: tuple[int, int]) -> np.ndarray | None:
    if not segmentation or sum(polygon_area(polygon) for polygon in segmentation) < 1e-3:
        return None
    low, high = polygon_extent(segmentation)
    limit = np.array([size[1], size[0]], np.float64)
    low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
    return np.concatenate([low, high]) if (high > low).all() else None


def _runs_box(lengths: np.ndarray, height: int) -> np.ndarray | None:
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


def all_annotation_problems(annotation: dict[str, Any], size: tuple[int, int], num_classes: int) -> Iterator[Problem]:
    """What ``annotation_problems`` finds, and what takes geometry: places, areas, boxes beside their masks.

    Args:
        annotation: with a contiguous ``category_id``.
        size: height and width of its image in pixels.
        num_classes: of the dataset's things.
    """
    problems = list(annotation_problems(annotation, size, num_classes))
    yield from problems
    fields = {problem.field for problem in problems}
    box = None
    if not fields & {"bbox", "bbox_mode"}:
        box = np.array(box_corners(annotation), np.float64)
        yield from _box_place_problems(box, annotation, size)
    segmentation = annotation.get("segmentation")
    if segmentation is not None and "segmentation" not in fields:
        yield from _mask_problems(segmentation, size, box)


def _box_place_problems(box: np.ndarray, annotation: dict[str, Any], size: tuple[int, int]) -> Iterator[Problem]:
    found, expected = shorten(list(annotation["bbox"])), f"a box within 0, 0, {size[1]}, {size[0]}"
    if (box[2:] == box[:2]).any():
        yield Problem("box_zero", "bbox", f"{found}, which has no area", expected, "correct or remove the annotation")
    if (box[:2] < -BORDER).any() or (box[2:] > np.array([size[1], size[0]]) + BORDER).any():
        yield Problem("box_outside", "bbox", f"{found}, which leaves the image", expected, "clip the box")


def _mask_problems(
    segmentation: list | dict[str, Any], size: tuple[int, int], box: np.ndarray | None
) -> Iterator[Problem]:
    field, limit = "segmentation", np.array([size[1], size[0]], np.float64)
    if isinstance(segmentation, dict):
        lengths = rle_counts(segmentation)
        if lengths is None:
            found = f"counts {shorten(segmentation['counts'], 30)}"
            expected = f"runs that make up {size[0]} x {size[1]} pixels"
            yield Problem("rle_counts", field, found, expected, "encode the mask again")
            return
        tight = _runs_box(lengths, size[0])
    else:
        yield from _polygon_place_problems(segmentation, size)
        tight = _polygons_box(segmentation, size)
    if tight is None:
        yield Problem("mask_empty", field, "a mask without area", "pixels", "remove the annotation")
    elif box is not None and (box[2:] > box[:2]).all():
        yield from _fit_problems(box, tight, limit)


def _polygon_place_problems(segmentation: list, size: tuple[int, int]) -> Iterator[Problem]:
    if segmentation:
        low, high = polygon_extent(segmentation)
        if (low < -BORDER).any() or (high > np.array([size[1], size[0]]) + BORDER).any():
            found = f"vertices from {low.tolist()} to {high.tolist()}"
            expected = f"0, 0 to {size[1]}, {size[0]}"
            yield Problem("polygon_outside", "segmentation", found, expected, "clip the polygon")


def _fit_problems(box: np.ndarray, tight: np.ndarray, limit: np.ndarray) -> Iterator[Problem]:
    inside = np.minimum(np.maximum(box, 0), np.concatenate([limit, limit]))
    miss = float(np.abs(inside - tight).max())
    if miss > max(FIT[0], FIT[1] * float((tight[2:] - tight[:2]).max())):
        found = f"x0, y0, x1, y1 {np.round(box, 1).tolist()}, {miss:.1f} pixels off its mask"
        yield Problem("box_mask", "bbox", found, str(np.round(tight, 1).tolist()), "take the box from the mask")
