"""COCO annotations of an id map."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_d2.data.masks import encode_mask


def annotations_from_ids(ids: np.ndarray, objects: Mapping[int, tuple[int, bool]]) -> list[dict[str, Any]]:
    """One annotation for each object that has a pixel, in ascending order of the ids.

    Args:
        ids: (H, W), any integer type: which object a pixel belongs to.
        objects: category id and whether it is a crowd, by the object's id in ``ids``.
    """
    # Transposed once, each mask is in COCO's column-major order without a copy.
    columns = np.ascontiguousarray(ids.T)
    annotations = []
    for value in sorted(objects):
        category, crowd = objects[value]
        entry = encode_mask((columns == value).T)
        if entry["area"]:
            annotations.append({"category_id": category, "iscrowd": int(crowd), **entry})
    return annotations
