"""How boxes agree with masks and images, beyond what a run refuses."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..annotation_geometry import annotation_problems, mask_box, polygon_extent
from ..annotations import box_corners, shorten
from ..faults import Problem

BORDER = 1.0  # pixels that a box or a polygon may reach over the image: rounding
FIT = 2.0, 0.05  # pixels, or share of the box's longer side, by which a box may miss its mask


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
    if isinstance(segmentation, list):
        yield from _polygon_place_problems(segmentation, size)
    tight = mask_box(segmentation, size)
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
