"""Network parts. Importing them registers them with Detectron2."""

from .backbone import build_resnet_fpn_exact_levels_backbone
from .edge import EDGE_HEADS_REGISTRY, FPNEdgeHead, build_edge_head
from .necks import NECKS_REGISTRY, Neck, build_neck, register_neck
from .postprocessing import combine_panoptic
from .roi_heads import MultiTaskFastRCNNOutputLayers, MultiTaskROIHeads
from .rpn import MultiTaskRPN
from .sem_seg import MultiTaskSemSegFPNHead

__all__ = [
    "EDGE_HEADS_REGISTRY",
    "NECKS_REGISTRY",
    "FPNEdgeHead",
    "MultiTaskFastRCNNOutputLayers",
    "MultiTaskROIHeads",
    "MultiTaskRPN",
    "MultiTaskSemSegFPNHead",
    "Neck",
    "build_edge_head",
    "build_neck",
    "build_resnet_fpn_exact_levels_backbone",
    "combine_panoptic",
    "register_neck",
]
