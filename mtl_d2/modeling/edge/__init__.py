"""Edge heads."""

from .base import EdgeHead, edge_head_arguments
from .build import EDGE_HEADS_REGISTRY, build_edge_head
from .criterion import build_edge_loss
from .decoder_head import DecoderEdgeHead
from .fpn import FPNEdgeHead
from .hed import HEDEdgeHead
from .light import LightEdgeHead
from .tower import TowerEdgeHead

__all__ = [
    "DecoderEdgeHead",
    "EDGE_HEADS_REGISTRY",
    "EdgeHead",
    "FPNEdgeHead",
    "HEDEdgeHead",
    "LightEdgeHead",
    "TowerEdgeHead",
    "build_edge_head",
    "build_edge_loss",
    "edge_head_arguments",
]
