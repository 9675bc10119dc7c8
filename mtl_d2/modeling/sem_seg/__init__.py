"""Semantic heads, all in Detectron2's SEM_SEG_HEADS_REGISTRY."""

from .criterion import SemSegCriterion
from .fpn import MultiTaskSemSegFPNHead
from .two_stage import TwoStageSemSegHead

__all__ = ["MultiTaskSemSegFPNHead", "SemSegCriterion", "TwoStageSemSegHead"]
