"""The tasks: one adapter per answer that the network gives."""

from .auxiliary import AuxiliaryTask
from .base import TASK_REGISTRY, TaskBatch, TaskBranch, get_task, known_tasks, register_task
from .classification import ClassificationBranch
from .edge import EdgeBranch
from .edge_coupling import EdgeCouplingBranch
from .instance import InstanceBranch
from .keypoint import KeypointBranch
from .sem_seg import SemSegBranch
from .step_features import StepFeatures

__all__ = [
    "TASK_REGISTRY",
    "AuxiliaryTask",
    "ClassificationBranch",
    "EdgeBranch",
    "EdgeCouplingBranch",
    "InstanceBranch",
    "KeypointBranch",
    "SemSegBranch",
    "StepFeatures",
    "TaskBatch",
    "TaskBranch",
    "get_task",
    "known_tasks",
    "register_task",
]
