"""The loss of an edge head, with its options, from a config."""

from collections.abc import Callable
from functools import partial

from detectron2.config import CfgNode
from torch import Tensor

from ...losses import EDGE_LOSSES, check_focal, edge_focal_loss, fixed_weight_loss, tracing_loss

EdgeLoss = Callable[[Tensor, Tensor], Tensor]

_KEY = "MODEL.MTL.EDGE_HEAD"


def build_edge_loss(head: CfgNode) -> EdgeLoss:
    """The loss ``(logits, targets) -> scalar`` that a node with the keys of ``MODEL.MTL.EDGE_HEAD`` describes.

    Raises:
        ValueError: LOSS is unknown, or an option of that loss is out of its range.
    """
    if head.LOSS not in EDGE_LOSSES:
        raise ValueError(f"{_KEY}.LOSS is {head.LOSS!r}: expected one of {sorted(EDGE_LOSSES)}")
    build = _WITH_OPTIONS.get(head.LOSS)
    return build(head) if build else EDGE_LOSSES[head.LOSS]


def _fixed(head: CfgNode) -> EdgeLoss:
    weight = head.POSITIVE_WEIGHT
    if not 0 < weight < 1:
        raise ValueError(f"{_KEY}.POSITIVE_WEIGHT is {weight}, expected a share in (0, 1)")
    return partial(fixed_weight_loss, positive_weight=weight)


def _focal(head: CfgNode) -> EdgeLoss:
    check_focal(_KEY, gamma=head.FOCAL_GAMMA, alpha=head.FOCAL_ALPHA)
    return partial(edge_focal_loss, alpha=head.FOCAL_ALPHA, gamma=head.FOCAL_GAMMA)


def _tracing(head: CfgNode) -> EdgeLoss:
    options = head.TRACING
    for key in ("BOUNDARY_WEIGHT", "TEXTURE_WEIGHT"):
        if not options[key] >= 0:
            raise ValueError(f"{_KEY}.TRACING.{key} is {options[key]}, expected 0 or more")
    return partial(tracing_loss, boundary_weight=options.BOUNDARY_WEIGHT, texture_weight=options.TEXTURE_WEIGHT)


_WITH_OPTIONS: dict[str, Callable[[CfgNode], EdgeLoss]] = {"fixed": _fixed, "focal": _focal, "tracing": _tracing}
