"""The loss of an edge head, with its options, from a config."""

from collections.abc import Callable

from detectron2.config import CfgNode
from torch import Tensor

from ...losses import EDGE_LOSSES
from .fpn import _edge_loss

EdgeLoss = Callable[[Tensor, Tensor], Tensor]


def build_edge_loss(head: CfgNode) -> EdgeLoss:
    """The loss ``(logits, targets) -> scalar`` that a node with the keys of ``MODEL.MTL.EDGE_HEAD`` describes.

    Raises:
        ValueError: LOSS is unknown, or an option of that loss is out of its range.
    """
    if head.LOSS not in EDGE_LOSSES:
        raise ValueError(f"MODEL.MTL.EDGE_HEAD.LOSS is {head.LOSS!r}: expected one of {sorted(EDGE_LOSSES)}")
    return _edge_loss(head.LOSS, head.POSITIVE_WEIGHT)
