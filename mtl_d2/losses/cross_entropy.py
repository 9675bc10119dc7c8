"""Softmax cross-entropy over dense maps in which some pixels, or all, carry no label."""

import torch.nn.functional as F
from torch import Tensor

from ._reduce import at_least_float32


def masked_cross_entropy(logits: Tensor, targets: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Mean cross-entropy over the valid pixels; `F.cross_entropy`'s value, but zero where that one is NaN.

    Args:
        logits: (N, K, ...), any float type; float32 is used inside.
        targets: (N, ...) long, in [0, K) or `ignore_index`.

    Returns:
        Scalar: sum over valid pixels / max(number of valid pixels, 1).
    """
    total = F.cross_entropy(at_least_float32(logits), targets, ignore_index=ignore_index, reduction="sum")
    return total / (targets != ignore_index).sum().clamp(min=1)
