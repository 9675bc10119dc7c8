"""The tasks: one adapter per answer that the network gives."""

from .base import TASK_REGISTRY, TaskBatch, TaskBranch, get_task, known_tasks, register_task
from .edge import EdgeBranch
from .instance import InstanceBranch
from .keypoint import KeypointBranch
from .sem_seg import SemSegBranch

__all__ = [
    "TASK_REGISTRY",
    "EdgeBranch",
    "InstanceBranch",
    "KeypointBranch",
    "SemSegBranch",
    "TaskBatch",
    "TaskBranch",
    "get_task",
    "known_tasks",
    "register_task",
]
