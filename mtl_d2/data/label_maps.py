"""Label maps of one channel from files: semantic ids and edges."""

from typing import Any

import numpy as np
from detectron2.data import detection_utils as utils

from .images import READ_ERRORS, BrokenSampleError, unreadable


def read_sem_seg(record: dict[str, Any], num_classes: int | None, ignore_value: int) -> np.ndarray:
    """Return the semantic ids of a record, (H, W) uint8.

    Args:
        record: with "sem_seg_file_name".
        num_classes: bound on the ids, unchecked where None.
        ignore_value: void, which may lie above the bound.

    Raises:
        BrokenSampleError: the file is unreadable, of another size than the record says, or holds an unknown id.
    """
    name = record["sem_seg_file_name"]
    sem_seg = read_label(name, record)
    if num_classes is not None:
        largest = int(np.max(sem_seg, where=sem_seg != ignore_value, initial=0))
        if largest >= num_classes:
            raise BrokenSampleError(
                f"{name}: found semantic label {largest}, expected 0 to {num_classes - 1} or "
                f"{ignore_value} (ignored); correct the map or MODEL.SEM_SEG_HEAD.NUM_CLASSES."
            )
    return sem_seg.astype(np.uint8, copy=False)


def read_label(name: str, record: dict[str, Any]) -> np.ndarray:
    """Return the ids of a label map, (H, W).

    Raises:
        BrokenSampleError: the file is unreadable, or of another size than the record says.
    """
    # Without a format, palette indices stay as they are; Detectron2's "L" turns them into gray values.
    try:
        label = utils.read_image(name, format=None)
    except READ_ERRORS as error:
        raise unreadable(name, error) from error
    if label.ndim != 2:
        raise BrokenSampleError(f"{name}: found {label.shape[2]} channels, expected a label map of one channel.")
    if label.shape != (record.get("height", label.shape[0]), record.get("width", label.shape[1])):
        raise wrong_size(name, label, record)
    return label


def wrong_size(name: str, found: np.ndarray, record: dict[str, Any]) -> BrokenSampleError:
    """What to say of a file of another size than its record says."""
    return BrokenSampleError(
        f"{name}: found {found.shape[1]} x {found.shape[0]} pixels (width x height), expected "
        f"{record['width']} x {record['height']}; correct the file or its record."
    )
