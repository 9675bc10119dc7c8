"""Records whose masks are all RLEs, or all polygons."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

Record = dict[str, Any]
Segmentation = list | dict[str, Any]


def with_rles(record: Record) -> Record:
    """A copy of the record with the RLE of each mask, by pycocotools."""
    return _with_masks(record, _to_rle)


def with_polygons(record: Record) -> Record:
    """A copy of the record with the outer contours of each mask; polygons stay as they are."""
    return _with_masks(
        record, lambda found, size: found if isinstance(found, list) else _to_polygons(_to_rle(found, size))
    )


def _with_masks(record: Record, convert: Callable[[Segmentation, tuple[int, int]], Segmentation]) -> Record:
    size = record["height"], record["width"]
    annotations = [{**a, "segmentation": convert(a["segmentation"], size)} for a in record["annotations"]]
    return {**record, "annotations": annotations}


def _to_rle(segmentation: Segmentation, size: tuple[int, int]) -> dict[str, Any]:
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, *size))
    return mask_util.frPyObjects(segmentation, *size) if isinstance(segmentation["counts"], list) else segmentation


def _to_polygons(rle: dict[str, Any]) -> list[list[float]]:
    contours, _ = cv2.findContours(mask_util.decode(rle), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [contour.reshape(-1).astype(float).tolist() for contour in contours if len(contour) > 2]
    if polygons:
        return polygons
    x, y, width, height = np.asarray(mask_util.toBbox(rle)).tolist()  # too thin for a contour with an area
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
