"""Evaluators: one per task, each scores the images that carry its label and leaves the others out."""

from mtl_d2.evaluation.instance import InstanceEvaluator
from mtl_d2.evaluation.panoptic import PanopticEvaluator
from mtl_d2.evaluation.sem_seg import SemSegEvaluator

__all__ = ["InstanceEvaluator", "PanopticEvaluator", "SemSegEvaluator"]
