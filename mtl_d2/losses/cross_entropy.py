"""Softmax cross-entropy over dense maps in which some pixels, or all, carry no label."""

import torch.nn.functional as F
from torch import Tensor

from ._reduce import at_least_float32, check_weight, total_weight


def masked_cross_entropy(
    logits: Tensor, targets: Tensor, *, weight: Tensor | None = None, ignore_index: int = 255
) -> Tensor:
    """Mean cross-entropy over the valid pixels; `F.cross_entropy`'s value, but zero where that one is NaN.

    Args:
        logits: (N, K, ...), any float type; float32 is used inside.
        targets: (N, ...) long, in [0, K) or `ignore_index`.
        weight: (K,) of each class, >= 0; None for ones.

    Returns:
        Scalar: weighted sum over valid pixels / the sum of their weights, where that is not 0.

    Raises:
        ValueError: `weight` of the wrong shape.
    """
    logits = at_least_float32(logits)
    check_weight(weight, logits.shape[1], "masked_cross_entropy")
    weight = None if weight is None else weight.to(logits)
    total = F.cross_entropy(logits, targets, weight, ignore_index=ignore_index, reduction="sum")
    return total / total_weight(targets, weight, ignore_index=ignore_index)
