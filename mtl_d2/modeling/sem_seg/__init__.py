"""Semantic heads, all in Detectron2's SEM_SEG_HEADS_REGISTRY."""

from .criterion import SemSegCriterion
from .decoder_head import DecoderSemSegHead
from .fpn import MultiTaskSemSegFPNHead
from .two_stage import TwoStageSemSegHead

__all__ = ["DecoderSemSegHead", "MultiTaskSemSegFPNHead", "SemSegCriterion", "TwoStageSemSegHead"]
