"""Evaluators: one per task, each scores the images that carry its label and leaves the others out."""

from .classification import ClassificationEvaluator
from .edge import EdgeEvaluator
from .instance import InstanceEvaluator
from .panoptic import PanopticEvaluator
from .sem_seg import SemSegEvaluator

__all__ = ["ClassificationEvaluator", "EdgeEvaluator", "InstanceEvaluator", "PanopticEvaluator", "SemSegEvaluator"]
