"""Corrections of the entries of a COCO json that take nothing but the json and the sizes of the files."""

from collections import Counter
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ..annotation_geometry import mask_box, polygon_extent
from ..annotations import box_problems, is_numbers, segmentation_problems
from .geometry import BORDER, all_annotation_problems

Size = tuple[int, int]


def fix_annotation(entry: dict[str, Any], size: Size) -> str:
    """Correct the box of an entry of 'annotations' in place.

    Args:
        entry: of the json.
        size: height and width of its image in pixels.

    Returns:
        What was done: "" for nothing, or a phrase; "removed ..." means that the caller has to remove the entry.
    """
    mask = entry.get("segmentation") or None
    usable = mask is not None and not list(segmentation_problems(mask, size))
    kinds = _box_kinds(entry, size)
    if usable and "mask_empty" in kinds:
        return "removed annotations whose mask has no area"
    tight = mask_box(mask, size) if usable and mask is not None else None  # None for broken counts too
    if "box_outside" in kinds and "box_zero" not in kinds:
        if _clip(entry, size):
            kinds = _box_kinds(entry, size)
            if "box_mask" not in kinds:
                return "clipped boxes to their image"
        elif tight is None:
            return "removed annotations whose box lies outside of their image"
        else:
            kinds.add("box_mask")
    if kinds & {"box_numbers", "box_negative", "box_zero", "box_mask"} and tight is not None:
        x0, y0, x1, y1 = tight.tolist()
        entry["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        return "took boxes from their masks"
    if "box_zero" in kinds and mask is None:
        return "removed annotations whose box has no area"
    return ""


def _box_kinds(entry: dict[str, Any], size: Size) -> set[str]:
    annotation = {**entry, "bbox_mode": BoxMode.XYWH_ABS}
    if not annotation.get("segmentation"):
        annotation.pop("segmentation", None)
    return {problem.kind for problem in all_annotation_problems(annotation, size, 0)}


def _clip(entry: dict[str, Any], size: Size) -> bool:
    x, y, width, height = entry["bbox"]
    limit = [size[1], size[0]] * 2
    x0, y0, x1, y1 = np.clip([x, y, x + width, y + height], 0, limit).tolist()
    if x1 <= x0 or y1 <= y0:
        return False
    entry["bbox"] = [x0, y0, x1 - x0, y1 - y0]
    return True


def renumber(annotations: list[Any], done: Counter[str]) -> None:
    """Give a new id to each entry whose id an earlier one has."""
    numbers = [a["id"] for a in annotations if isinstance(a, dict) and isinstance(a.get("id"), int)]
    following = max(numbers, default=0) + 1
    seen = set()
    for entry in annotations:
        id_ = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(id_, int | str):
            continue
        if id_ in seen:
            entry["id"] = following
            following += 1
            done["renumbered annotation ids that were there twice"] += 1
        seen.add(id_)


def labels_fit(annotations: list[dict[str, Any]], size: Size) -> bool:
    """Whether the entries of an image were drawn on one of this size (height, width): RLEs have it, the rest fits."""
    limit = np.array([size[1], size[0]], np.float64) + BORDER
    for entry in annotations:
        mask = entry.get("segmentation") or None
        if isinstance(mask, dict) and (not is_numbers(mask.get("size")) or list(mask["size"]) != list(size)):
            return False
        if isinstance(mask, list) and not list(segmentation_problems(mask, size)):
            low, high = polygon_extent(mask)
            if (low < -BORDER).any() or (high > limit).any():
                return False
        annotation = {**entry, "bbox_mode": BoxMode.XYWH_ABS}
        if not list(box_problems(annotation)):
            x, y, width, height = entry["bbox"]
            if min(x, y) < -BORDER or x + width > limit[0] or y + height > limit[1]:
                return False
    return True
