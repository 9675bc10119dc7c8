"""Evaluators: one per task, each scores the images that carry its label and leaves the others out."""

from .edge import EdgeEvaluator
from .instance import InstanceEvaluator
from .keypoint import KeypointEvaluator
from .panoptic import PanopticEvaluator
from .sem_seg import SemSegEvaluator

__all__ = ["EdgeEvaluator", "InstanceEvaluator", "KeypointEvaluator", "PanopticEvaluator", "SemSegEvaluator"]
