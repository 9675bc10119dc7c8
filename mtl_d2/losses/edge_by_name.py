"""The edge losses by name, as configs choose them."""

from collections.abc import Callable

from torch import Tensor

from .edge import edge_dice_loss, edge_focal_loss, fixed_weight_loss, hed_loss, rcf_loss
from .edge_ranking import edge_rank_loss
from .edge_tracing import tracing_loss

EDGE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hed": hed_loss,
    "rcf": rcf_loss,
    "fixed": fixed_weight_loss,
    "focal": edge_focal_loss,
    "dice": edge_dice_loss,
    "tracing": tracing_loss,
    "rank": edge_rank_loss,
}


def edge_loss(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    """The loss of that name in EDGE_LOSSES.

    Raises:
        ValueError: unknown `kind`, or logits and targets of different shapes.
    """
    if kind not in EDGE_LOSSES:
        raise ValueError(f"edge_loss: kind is {kind!r}, expected one of {', '.join(EDGE_LOSSES)}")
    if logits.shape != targets.shape:
        raise ValueError(
            f"edge_loss: logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}, "
            "expected (N, H, W) for both"
        )
    return EDGE_LOSSES[kind](logits, targets)
