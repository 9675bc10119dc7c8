"""Evaluators: one per task, each scores the images that carry its label and leaves the others out."""

from .classification import ClassificationEvaluator
from .edge import EdgeEvaluator
from .edge_options import EdgeOptions
from .edge_sets import EdgeSet, score_edges
from .instance import InstanceEvaluator
from .keypoint import KeypointEvaluator
from .panoptic import PanopticEvaluator
from .sem_seg import SemSegEvaluator

__all__ = [
    "ClassificationEvaluator",
    "EdgeEvaluator",
    "EdgeOptions",
    "EdgeSet",
    "InstanceEvaluator",
    "KeypointEvaluator",
    "PanopticEvaluator",
    "SemSegEvaluator",
    "score_edges",
]
