"""ROI heads: Detectron2's, with a choice of losses and with partial labels."""

from .fast_rcnn import MultiTaskFastRCNNOutputLayers
from .roi_heads import MultiTaskROIHeads

__all__ = ["MultiTaskFastRCNNOutputLayers", "MultiTaskROIHeads"]
