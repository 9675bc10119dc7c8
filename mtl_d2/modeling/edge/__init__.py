"""Edge heads."""

from .build import EDGE_HEADS_REGISTRY, build_edge_head
from .decoder_head import DecoderEdgeHead
from .fpn import FPNEdgeHead

__all__ = ["EDGE_HEADS_REGISTRY", "DecoderEdgeHead", "FPNEdgeHead", "build_edge_head"]
