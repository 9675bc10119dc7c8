"""The tasks: one adapter per answer that the network gives."""

from .base import TASK_REGISTRY, TaskBatch, TaskBranch, get_task, known_tasks, register_task
from .classification import ClassificationBranch
from .edge import EdgeBranch
from .instance import InstanceBranch
from .sem_seg import SemSegBranch

__all__ = [
    "TASK_REGISTRY",
    "ClassificationBranch",
    "EdgeBranch",
    "InstanceBranch",
    "SemSegBranch",
    "TaskBatch",
    "TaskBranch",
    "get_task",
    "known_tasks",
    "register_task",
]
