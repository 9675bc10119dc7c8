"""Network parts. Importing them registers them with Detectron2."""

from .backbone import build_resnet_fpn_exact_levels_backbone
from .classification import CLASSIFICATION_HEADS_REGISTRY, ClassificationHead, build_classification_head
from .edge import EDGE_HEADS_REGISTRY, FPNEdgeHead, build_edge_head
from .postprocessing import combine_panoptic
from .roi_heads import MultiTaskFastRCNNOutputLayers, MultiTaskROIHeads
from .rpn import MultiTaskRPN
from .sem_seg import MultiTaskSemSegFPNHead

__all__ = [
    "CLASSIFICATION_HEADS_REGISTRY",
    "EDGE_HEADS_REGISTRY",
    "ClassificationHead",
    "FPNEdgeHead",
    "MultiTaskFastRCNNOutputLayers",
    "MultiTaskROIHeads",
    "MultiTaskRPN",
    "MultiTaskSemSegFPNHead",
    "build_classification_head",
    "build_edge_head",
    "build_resnet_fpn_exact_levels_backbone",
    "combine_panoptic",
]
