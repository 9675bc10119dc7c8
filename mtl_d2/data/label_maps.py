"""Label maps of one channel from files: semantic ids and edges."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager

from ..structures import LabelMapError, read_label_map, read_semantic_ids
from .images import READ_ERRORS, BrokenSampleError, unreadable


def read_sem_seg(record: Mapping[str, Any], num_classes: int | None, ignore_value: int) -> np.ndarray:
    """Return the semantic ids of a record, (H, W) uint8, those of the run.

    Args:
        record: with "sem_seg_file_name".
        num_classes: bound on the ids, unchecked where None.
        ignore_value: void, which may lie above the bound.

    Raises:
        BrokenSampleError: the file is unreadable, of another size than the record says, or holds an unknown id.
    """
    name = record["sem_seg_file_name"]
    sem_seg = read_label(name, record, partial(read_semantic_ids, record))
    if num_classes is not None:
        largest = int(np.max(sem_seg, where=sem_seg != ignore_value, initial=0))
        if largest >= num_classes:
            raise BrokenSampleError(
                f"{name}: found semantic label {largest}, expected 0 to {num_classes - 1} or "
                f"{ignore_value} (ignored); correct the map or MODEL.SEM_SEG_HEAD.NUM_CLASSES."
            )
    return sem_seg.astype(np.uint8, copy=False)


def read_label(name: str, record: Mapping[str, Any], read: Callable[..., np.ndarray] | None = None) -> np.ndarray:
    """Return the ids of a label map, (H, W).

    Args:
        name: of the file.
        record: with the size that it has to have, if it says one.
        read: reads it, with ``open_file=``; None for the ids as they are stored.

    Raises:
        BrokenSampleError: the file is unreadable, or of another size than the record says.
    """
    try:
        label = (read or partial(read_label_map, name))(open_file=PathManager.open)
    except LabelMapError as error:
        raise BrokenSampleError(str(error)) from error
    except READ_ERRORS as error:
        raise unreadable(name, error) from error
    if label.shape != (record.get("height", label.shape[0]), record.get("width", label.shape[1])):
        raise wrong_size(name, label, record)
    return label


def wrong_size(name: str, found: np.ndarray, record: Mapping[str, Any]) -> BrokenSampleError:
    """What to say of a file of another size than its record says."""
    return BrokenSampleError(
        f"{name}: found {found.shape[1]} x {found.shape[0]} pixels (width x height), expected "
        f"{record['width']} x {record['height']}; correct the file or its record."
    )
