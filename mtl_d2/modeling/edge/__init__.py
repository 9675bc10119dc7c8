"""Edge heads."""

from .build import EDGE_HEADS_REGISTRY, build_edge_head
from .fpn import FPNEdgeHead

__all__ = ["EDGE_HEADS_REGISTRY", "FPNEdgeHead", "build_edge_head"]
