"""Network parts. Importing them registers them with Detectron2."""

from .backbone import build_resnet_fpn_exact_levels_backbone
from .edge import EDGE_HEADS_REGISTRY, FPNEdgeHead, TowerEdgeHead, build_edge_head
from .postprocessing import combine_panoptic
from .roi_heads import MultiTaskFastRCNNOutputLayers, MultiTaskROIHeads
from .rpn import MultiTaskRPN
from .sem_seg import MultiTaskSemSegFPNHead, TwoStageSemSegHead

__all__ = [
    "EDGE_HEADS_REGISTRY",
    "FPNEdgeHead",
    "MultiTaskFastRCNNOutputLayers",
    "MultiTaskROIHeads",
    "MultiTaskRPN",
    "MultiTaskSemSegFPNHead",
    "TowerEdgeHead",
    "TwoStageSemSegHead",
    "build_edge_head",
    "build_resnet_fpn_exact_levels_backbone",
    "combine_panoptic",
]
