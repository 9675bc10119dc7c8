"""Which tasks a record is labelled for."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

TASK_LABELS: dict[str, tuple[str, ...]] = {  # task -> keys of a record, any of which labels it
    "instance": ("annotations",),
    "sem_seg": ("sem_seg_file_name",),
    "edge": ("edge_file_name", "edge_source"),
    "keypoint": ("annotations",),  # of which one has "keypoints"
}


def is_labelled(record: Record, task: str) -> bool:
    """Return whether a record carries a label of one of :data:`TASK_LABELS`; an empty label is a label."""
    if task == "keypoint":
        return any("keypoints" in annotation for annotation in record.get("annotations", ()))
    return any(record.get(key) not in (None, "none") for key in TASK_LABELS[task])


def may_be_labelled(record: Record, tasks: Sequence[str]) -> bool:
    """Return whether a record has a label for one of the tasks; any may have one for a task of another package."""
    return any(task not in TASK_LABELS or is_labelled(record, task) for task in tasks)


def count_labels(records: Sequence[Record], tasks: Sequence[str]) -> dict[str, int]:
    """Return how many records are labelled for each task; tasks of other packages are left out."""
    return {task: sum(is_labelled(record, task) for record in records) for task in tasks if task in TASK_LABELS}


def has_objects(record: Record) -> bool:
    """Return whether a record that is labelled for instances has one that is not a crowd."""
    return any(not annotation.get("iscrowd", 0) for annotation in record["annotations"])
