"""The tasks: one adapter per answer that the network gives."""

from .base import TASK_REGISTRY, TaskBatch, TaskBranch, get_task, known_tasks, register_task
from .edge import EdgeBranch
from .instance import InstanceBranch
from .sem_seg import SemSegBranch
from .step_features import StepFeatures

__all__ = [
    "TASK_REGISTRY",
    "EdgeBranch",
    "InstanceBranch",
    "SemSegBranch",
    "StepFeatures",
    "TaskBatch",
    "TaskBranch",
    "get_task",
    "known_tasks",
    "register_task",
]
