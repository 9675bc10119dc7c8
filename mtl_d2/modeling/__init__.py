"""Network parts. Importing them registers them with Detectron2."""

from .roi_heads import MultiTaskFastRCNNOutputLayers, MultiTaskROIHeads
from .rpn import MultiTaskRPN

__all__ = ["MultiTaskFastRCNNOutputLayers", "MultiTaskROIHeads", "MultiTaskRPN"]
