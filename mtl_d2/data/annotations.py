"""Checks of one annotation by its numbers alone; each yields what it finds."""

from collections.abc import Container, Iterator
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .faults import Problem

_FAR = 1e9  # pixels; no image is so large


def annotation_problems(annotation: dict[str, Any], size: tuple[int, int], num_classes: int) -> Iterator[Problem]:
    """All problems of an annotation of Detectron2's form.

    Args:
        annotation: with a contiguous ``category_id``.
        size: height and width of its image in pixels.
        num_classes: of the dataset's things.
    """
    yield from category_problems(annotation.get("category_id"), range(num_classes))
    yield from crowd_problems(annotation)
    yield from box_problems(annotation)
    if "segmentation" in annotation:
        yield from segmentation_problems(annotation["segmentation"], size)
    if "keypoints" in annotation:
        yield from keypoint_problems(annotation["keypoints"])


def keypoint_problems(keypoints: object) -> Iterator[Problem]:
    """Keypoints that are not three finite numbers each, the third COCO's visibility."""
    if is_numbers(keypoints) and len(keypoints) % 3 == 0 and set(keypoints[2::3]) <= {0, 1, 2}:  # type: ignore
        return
    expected = "[x, y, visibility, ...] with finite numbers and a visibility of 0, 1 or 2"
    yield Problem("keypoints", "keypoints", shorten(keypoints), expected, "correct it, or leave the key out")


def category_problems(category: object, known: range | Container[object]) -> Iterator[Problem]:
    """A class id that is no contiguous id (``known`` is a range), or not listed in the json (a set of its ids)."""
    if isinstance(category, int) and category in known:
        return
    if isinstance(known, range):
        expected = f"a contiguous id in [0, {len(known)}), an index of thing_classes"
        yield Problem("category", "category_id", repr(category), expected, "map the dataset's ids")
    else:
        expected = "an id that 'categories' lists"
        yield Problem("category", "category_id", repr(category), expected, "correct it, or add the category")


def crowd_problems(annotation: dict[str, Any]) -> Iterator[Problem]:
    """``iscrowd`` that is neither 0 nor 1."""
    crowd = annotation.get("iscrowd", 0)
    if not (isinstance(crowd, int | float | np.generic) and crowd in (0, 1)):
        yield Problem("iscrowd", "iscrowd", repr(crowd), "0 or 1", "correct it")


def box_problems(annotation: dict[str, Any]) -> Iterator[Problem]:
    """A box that is not four finite numbers, or has a negative side."""
    box, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    if mode not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        yield Problem("box_mode", "bbox_mode", repr(mode), "BoxMode.XYXY_ABS or BoxMode.XYWH_ABS", "set it")
        return
    if not is_numbers(box) or len(box) != 4:  # type: ignore[arg-type]
        yield Problem("box_numbers", "bbox", shorten(box), "four finite numbers", "correct it")
        return
    x0, y0, x1, y1 = box_corners(annotation)
    if x1 < x0 or y1 < y0:  # COCO itself has boxes of height 0; the loader drops those
        found = f"{shorten(list(box))} in {BoxMode(mode).name}, which has a negative side"  # type: ignore[arg-type]
        yield Problem("box_negative", "bbox", found, "sides of 0 pixels or more", "check bbox_mode")


def box_corners(annotation: dict[str, Any]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a box that ``box_problems`` has nothing against; twenty times as fast as BoxMode.convert."""
    x, y, far_x, far_y = annotation["bbox"]
    return (x, y, x + far_x, y + far_y) if annotation["bbox_mode"] == BoxMode.XYWH_ABS else (x, y, far_x, far_y)


def segmentation_problems(segmentation: object, size: tuple[int, int]) -> Iterator[Problem]:
    """Neither polygons of three points or more, nor an RLE of the image's size.

    Args:
        size: height and width of the image in pixels.
    """
    if isinstance(segmentation, dict):
        found = segmentation.get("size")
        if not is_numbers(found) or [*found] != [*size] or "counts" not in segmentation:  # type: ignore[misc]
            expected = f"'counts' and the image's [height, width] {list(size)}"
            fix = "encode the mask at the image's size"
            yield Problem("rle_size", "segmentation", f"an RLE of size {shorten(found)}", expected, fix)
    elif not isinstance(segmentation, list) or not all(_is_polygon(polygon) for polygon in segmentation):
        expected = "a dict with 'size' and 'counts' or a list of [x0, y0, x1, y1, x2, y2, ...]"
        found = f"neither RLE nor polygons, but {shorten(segmentation)}"
        yield Problem("polygon", "segmentation", found, expected, "correct it")


def is_numbers(values: object) -> bool:
    """Whether it is a sequence of finite numbers, none of them as large as no image is."""
    if not isinstance(values, list | tuple | np.ndarray):
        return False
    try:
        array = np.asarray(values)
    except ValueError:  # of unequal lengths
        return False
    return array.ndim == 1 and (array.size == 0 or (array.dtype.kind in "iuf" and bool((np.abs(array) < _FAR).all())))


def shorten(value: object, length: int = 60) -> str:
    """A value as it is written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def _is_polygon(polygon: object) -> bool:
    return is_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0  # type: ignore[arg-type]
