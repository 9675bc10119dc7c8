"""ROI heads: Detectron2's, with a choice of losses and with partial labels."""

from .fast_rcnn import MultiTaskFastRCNNOutputLayers
from .keypoint import build_keypoint_head, keypoint_losses, predict_keypoints, sample_keypoint_regions
from .roi_heads import MultiTaskROIHeads

__all__ = [
    "MultiTaskFastRCNNOutputLayers",
    "MultiTaskROIHeads",
    "build_keypoint_head",
    "keypoint_losses",
    "predict_keypoints",
    "sample_keypoint_regions",
]
