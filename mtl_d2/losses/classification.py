"""Losses of labels of whole images: K classes, each in the image, not in it, or unknown, which counts nowhere."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._reduce import at_least_float32, check_weight
from .focal import sigmoid_focal_loss

_FLOOR = 1e-12  # a power below 1 has an infinite slope at 0; below the floor the slope is 0


def multi_label_bce_loss(logits: Tensor, targets: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy over the known labels.

    Args:
        logits: (N, K), any float type; float32 is used inside.
        targets: (N, K), 1 for a class in the image, 0 for one that is not, below 0 for unknown.
        weight: (K,) of each class, >= 0; None for ones.

    Returns:
        Scalar: weighted sum over the known labels / the sum of their weights; 0 with a gradient where none is known.

    Raises:
        ValueError: `weight` of the wrong shape.
    """
    logits, labels = _known_part(logits, targets)
    return _known_mean(F.binary_cross_entropy_with_logits(logits, labels, reduction="none"), targets, weight)


def multi_label_focal_loss(
    logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0, weight: Tensor | None = None
) -> Tensor:
    """Mean sigmoid focal loss over the known labels.

    "Focal Loss for Dense Object Detection" (Lin et al. 2017), equation 5.

    Args:
        logits, targets, weight: see :func:`multi_label_bce_loss`.
        alpha: weight of the positives, 1 - alpha that of the negatives; below 0 for none.
        gamma: focusing exponent, >= 0.

    Raises:
        ValueError: see :func:`multi_label_bce_loss`; negative `gamma`.
    """
    if gamma < 0:
        raise ValueError(f"multi_label_focal_loss: gamma is {gamma}, expected >= 0")
    logits, labels = _known_part(logits, targets)
    return _known_mean(sigmoid_focal_loss(logits, labels, alpha=alpha, gamma=gamma), targets, weight)


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    shift: float = 0.05,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean over the known labels of -(1 - p)^gamma_pos log(p) of positives, -p_m^gamma_neg log(1 - p_m) of negatives.

    "Asymmetric Loss For Multi-Label Classification" (Ridnik et al. 2021), equations 4 to 7, with p_m = max(p - m, 0).
    A negative whose probability is at most the shift m costs nothing. The paper sums over the classes; this is the
    mean, as of the other losses. With exponents and shift of 0 it is the binary cross-entropy.

    Args:
        logits, targets, weight: see :func:`multi_label_bce_loss`.
        gamma_pos, gamma_neg: focusing exponents, >= 0.
        shift: m, in [0, 1).

    Raises:
        ValueError: see :func:`multi_label_bce_loss`; an exponent or the shift out of its range.
    """
    if gamma_pos < 0 or gamma_neg < 0 or not 0 <= shift < 1:
        raise ValueError(
            f"asymmetric_loss: gamma_pos, gamma_neg and shift are {gamma_pos}, {gamma_neg} and {shift}, expected "
            ">= 0, >= 0 and [0, 1)"
        )
    logits, labels = _known_part(logits, targets)
    p, q = logits.sigmoid(), (-logits).sigmoid()  # q = 1 - p, exact where p is near 1
    positive = F.softplus(-logits) * q.clamp(min=_FLOOR) ** gamma_pos
    negative = F.softplus(logits) if shift == 0 else -(q + shift).clamp(max=1).log()
    negative = negative * (p - shift).clamp(min=_FLOOR) ** gamma_neg
    return _known_mean(labels * positive + (1 - labels) * negative, targets, weight)


def _known_part(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and labels with zeros where the label is unknown: an infinite logit there would make a NaN gradient."""
    unknown = targets < 0
    logits = at_least_float32(logits).masked_fill(unknown, 0)
    return logits, targets.masked_fill(unknown, 0).to(logits)


def _known_mean(loss: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of (N, K) over the known labels, weighted by class."""
    check_weight(weight, loss.shape[1], "multi-label loss")
    weights = (targets >= 0).to(loss)
    if weight is not None:
        weights = weights * weight.to(loss)
    total = weights.sum()
    return (loss * weights).sum() / torch.where(total > 0, total, 1)
