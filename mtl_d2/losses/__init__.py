"""Losses as pure functions on tensors: float32 inside, zero with a gradient where nothing is labelled."""

from .classification import asymmetric_loss, multi_label_bce_loss, multi_label_focal_loss
from .cross_entropy import masked_cross_entropy
from .dice import binary_dice_loss, dice_loss
from .edge import edge_dice_loss, edge_focal_loss, fixed_weight_loss, hed_loss, rcf_loss
from .edge_by_name import EDGE_LOSSES, edge_loss
from .edge_ranking import edge_rank_loss
from .edge_regression import (
    PREDICTED_EDGES,
    check_edge_regression,
    class_probs,
    edge_consistency,
    edge_regression_loss,
    edge_weighted_smoothness,
    squared_edge_error,
    structure_edges,
    total_variation_edges,
)
from .edge_tracing import tracing_loss
from .focal import check_focal, focal_prior_bias, sigmoid_focal_loss, softmax_focal_loss
from .hard_examples import HardPixels, hardest
from .iou import iou_loss

__all__ = [
    "EDGE_LOSSES",
    "PREDICTED_EDGES",
    "HardPixels",
    "asymmetric_loss",
    "binary_dice_loss",
    "check_edge_regression",
    "check_focal",
    "class_probs",
    "dice_loss",
    "edge_consistency",
    "edge_dice_loss",
    "edge_focal_loss",
    "edge_loss",
    "edge_regression_loss",
    "edge_weighted_smoothness",
    "edge_rank_loss",
    "fixed_weight_loss",
    "focal_prior_bias",
    "hardest",
    "hed_loss",
    "iou_loss",
    "masked_cross_entropy",
    "multi_label_bce_loss",
    "multi_label_focal_loss",
    "rcf_loss",
    "sigmoid_focal_loss",
    "softmax_focal_loss",
    "squared_edge_error",
    "structure_edges",
    "total_variation_edges",
    "tracing_loss",
]
