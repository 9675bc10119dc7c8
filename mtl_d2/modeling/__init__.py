"""Network parts. Importing them registers them with Detectron2."""

from .backbones import VGG, FPNWithMaps, build_resnet_fpn_exact_levels_backbone
from .classification import CLASSIFICATION_HEADS_REGISTRY, ClassificationHead, build_classification_head
from .decoders import DECODERS_REGISTRY, Decoder, build_decoder
from .edge import EDGE_HEADS_REGISTRY, DecoderEdgeHead, FPNEdgeHead, TowerEdgeHead, build_edge_head
from .necks import NECKS_REGISTRY, Neck, build_neck, register_neck
from .postprocessing import combine_panoptic
from .roi_heads import MultiTaskFastRCNNOutputLayers, MultiTaskROIHeads
from .rpn import MultiTaskRPN
from .sem_seg import DecoderSemSegHead, MultiTaskSemSegFPNHead, TwoStageSemSegHead

__all__ = [
    "DECODERS_REGISTRY",
    "EDGE_HEADS_REGISTRY",
    "VGG",
    "Decoder",
    "DecoderEdgeHead",
    "DecoderSemSegHead",
    "CLASSIFICATION_HEADS_REGISTRY",
    "ClassificationHead",
    "NECKS_REGISTRY",
    "FPNEdgeHead",
    "FPNWithMaps",
    "MultiTaskFastRCNNOutputLayers",
    "MultiTaskROIHeads",
    "MultiTaskRPN",
    "MultiTaskSemSegFPNHead",
    "TowerEdgeHead",
    "TwoStageSemSegHead",
    "build_decoder",
    "build_classification_head",
    "Neck",
    "build_edge_head",
    "build_neck",
    "build_resnet_fpn_exact_levels_backbone",
    "combine_panoptic",
    "register_neck",
]
