"""Losses as pure functions on tensors: float32 inside, zero with a gradient where nothing is labelled."""

from .classification import asymmetric_loss, multi_label_bce_loss, multi_label_focal_loss
from .cross_entropy import masked_cross_entropy
from .dice import binary_dice_loss, dice_loss
from .edge import (
    EDGE_LOSSES,
    edge_dice_loss,
    edge_focal_loss,
    edge_loss,
    fixed_weight_loss,
    hed_loss,
    rcf_loss,
)
from .focal import focal_prior_bias, softmax_focal_loss
from .hard_examples import HardPixels, hardest
from .iou import iou_loss

__all__ = [
    "EDGE_LOSSES",
    "HardPixels",
    "asymmetric_loss",
    "binary_dice_loss",
    "dice_loss",
    "edge_dice_loss",
    "edge_focal_loss",
    "edge_loss",
    "fixed_weight_loss",
    "focal_prior_bias",
    "hardest",
    "hed_loss",
    "iou_loss",
    "masked_cross_entropy",
    "multi_label_bce_loss",
    "multi_label_focal_loss",
    "rcf_loss",
    "softmax_focal_loss",
]
