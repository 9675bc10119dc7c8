"""Edge heads."""

from .build import EDGE_HEADS_REGISTRY, build_edge_head
from .decoder_head import DecoderEdgeHead
from .fpn import FPNEdgeHead
from .tower import TowerEdgeHead

__all__ = ["DecoderEdgeHead", "EDGE_HEADS_REGISTRY", "FPNEdgeHead", "TowerEdgeHead", "build_edge_head"]
