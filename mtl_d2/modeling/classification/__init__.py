"""Heads for labels of whole images."""

from .build import CLASSIFICATION_HEADS_REGISTRY, build_classification_head
from .head import ClassificationHead

__all__ = ["CLASSIFICATION_HEADS_REGISTRY", "ClassificationHead", "build_classification_head"]
