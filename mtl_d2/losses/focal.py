"""Focal loss over softmax probabilities, for dense maps, and over sigmoids."""

import math

import torch
import torch.nn.functional as F
from fvcore.nn import sigmoid_focal_loss as fvcore_focal_loss
from torch import Tensor

from ._reduce import at_least_float32, check_weight, total_weight

_FLOOR = 1e-12  # of 1 - p_t: for gamma < 1 the power has an infinite slope at 0; below the floor the slope is 0


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), with p_t the sigmoid probability of the target.

    "Focal Loss for Dense Object Detection" (Lin et al. 2017), equation 5. fvcore's, but for an exponent between 0 and
    1, for which that one's gradient is NaN where a sigmoid is saturated.

    Args:
        logits: any shape and float type; float32 is used inside.
        targets: of that shape, in {0, 1}.
        alpha: weight of the positives, 1 - alpha that of the negatives; below 0 for none.
        gamma: focusing exponent, >= 0.

    Returns:
        The losses, of that shape.
    """
    if not 0 < gamma < 1:
        return fvcore_focal_loss(logits, targets, alpha=alpha, gamma=gamma)
    cross_entropy = fvcore_focal_loss(logits, targets, alpha=alpha, gamma=0)
    distance = (logits.float().sigmoid() - targets.float()).abs()  # 1 - p_t
    return cross_entropy * distance.clamp(min=_FLOOR) ** gamma


def softmax_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), with p_t the softmax probability of the target class.

    "Focal Loss for Dense Object Detection" (Lin et al. 2017), equations 4 and 5, for K classes. With `gamma`
    0 it is the (weighted) cross-entropy.

    Args:
        logits: (N, K, ...), any float type; float32 is used inside.
        targets: (N, ...) long, in [0, K) or `ignore_index`.
        gamma: focusing exponent, >= 0.
        weight: (K,) alpha of each class, >= 0; None for ones.
        reduction: "mean" (the weighted sum over the valid pixels / the sum of their weights), "sum" or "none"
            ((N, ...), zero where ignored).

    Raises:
        ValueError: negative `gamma`, `weight` of the wrong shape, unknown `reduction`.
    """
    if gamma < 0:
        raise ValueError(f"softmax_focal_loss: gamma is {gamma}, expected >= 0")
    check_weight(weight, logits.shape[1], "softmax_focal_loss")
    # -log(p_t), and 0 where ignored, which the product below keeps.
    cross_entropy = F.cross_entropy(at_least_float32(logits), targets, ignore_index=ignore_index, reduction="none")
    loss = cross_entropy
    if gamma > 0:
        one_minus_pt = -torch.expm1(-cross_entropy)
        loss = loss * one_minus_pt.clamp(min=_FLOOR) ** gamma
    if weight is not None:
        weight = weight.to(loss)
        loss = loss * weight[targets.masked_fill(targets == ignore_index, 0)]
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / total_weight(targets, weight, ignore_index=ignore_index)
    raise ValueError(f"softmax_focal_loss: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")


def check_focal(node: str, *, gamma: float, alpha: float = -1.0) -> None:
    """Refuse options of a focal loss that the config node ``node`` has out of their range.

    Args:
        node: such as "MODEL.MTL.RPN".
        gamma: its FOCAL_GAMMA, finite and >= 0.
        alpha: its FOCAL_ALPHA, in (0, 1), or below 0 for none.

    Raises:
        ValueError: naming the key.
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"{node}.FOCAL_GAMMA is {gamma}, expected a finite number of 0 or more")
    if not (alpha < 0 or 0 < alpha < 1):
        raise ValueError(f"{node}.FOCAL_ALPHA is {alpha}, expected a share in (0, 1), or -1 for none")


def focal_prior_bias(probability: float = 0.01) -> float:
    """Bias with which a sigmoid starts at that probability, lest the many negatives swamp the first steps.

    "Focal Loss for Dense Object Detection" (Lin et al. 2017), section 4.1, where the probability is called
    pi.
    """
    return -math.log((1 - probability) / probability)
