"""Which tasks a record is labelled for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ..structures.image_labels import image_label_source

Record = Mapping[str, Any]

TaskLabels = Mapping[str, tuple[str, ...]]

TASK_LABELS: TaskLabels = {  # task -> keys of a record, any of which labels it
    "instance": ("annotations",),
    "sem_seg": ("sem_seg_file_name",),
    "edge": ("edge_file_name", "edge_source"),
    "edge_coupling": ("edge_file_name", "edge_source"),
    "classification": ("image_labels",),
    "keypoint": ("annotations",),  # of which one has "keypoints"
}
LABELS_OF = {"edge_coupling": "edge"}  # task without labels of its own -> the task whose labels it is trained on


def task_labels(cfg: CfgNode) -> TaskLabels:
    """Return :data:`TASK_LABELS` as a config derives them: image labels from INPUT.MTL.IMAGE_LABELS.

    Raises:
        ValueError: that key names no label.
    """
    return {**TASK_LABELS, "classification": (image_label_source(cfg.INPUT.MTL.IMAGE_LABELS).record_key,)}


def labelling_tasks(tasks: Sequence[str]) -> tuple[str, ...]:
    """Return, for each task, the one whose labels it is trained on: itself, or one of :data:`LABELS_OF`."""
    return tuple(LABELS_OF.get(task, task) for task in tasks)


def is_labelled(record: Record, task: str, labels: TaskLabels = TASK_LABELS) -> bool:
    """Return whether a record carries a label of one of these tasks; an empty label is a label."""
    if task == "keypoint":
        return any("keypoints" in annotation for annotation in record.get("annotations") or ())
    return any(record.get(key) not in (None, "none") for key in labels[task])


def may_be_labelled(record: Record, tasks: Sequence[str], labels: TaskLabels = TASK_LABELS) -> bool:
    """Return whether a record has a label for one of the tasks; any may have one for a task of another package."""
    return any(task not in labels or is_labelled(record, task, labels) for task in tasks)


def label_table(records: Sequence[Record], tasks: Sequence[str], labels: TaskLabels = TASK_LABELS) -> np.ndarray:
    """Return (N, T) bool: which of the N records are labelled for which of the T tasks, all of them in ``labels``."""
    table = np.array([[is_labelled(record, task, labels) for task in tasks] for record in records], bool)
    return table.reshape(len(records), len(tasks))


def count_labels(records: Sequence[Record], tasks: Sequence[str], labels: TaskLabels = TASK_LABELS) -> dict[str, int]:
    """Return how many records are labelled for each task; tasks of other packages are left out."""
    return {task: sum(is_labelled(record, task, labels) for record in records) for task in tasks if task in labels}


def has_objects(record: Record) -> bool:
    """Return whether a record that is labelled for instances has one that is not a crowd."""
    return any(not annotation.get("iscrowd", 0) for annotation in record["annotations"])
