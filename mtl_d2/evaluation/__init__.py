"""Evaluators: one per task, each scores the images that carry its label and leaves the others out."""

from .edge import EdgeEvaluator
from .instance import InstanceEvaluator
from .panoptic import PanopticEvaluator
from .sem_seg import SemSegEvaluator

__all__ = ["EdgeEvaluator", "InstanceEvaluator", "PanopticEvaluator", "SemSegEvaluator"]
