"""What every loss needs: enough precision, and means that survive an empty set."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Cast half precision to float32: a sum over pixels overflows fp16 and stalls in bf16. float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is set, zero (with a gradient) where it is set nowhere.

    Args:
        values: any shape, finite wherever the mask is unset too.
        mask: bool, same shape.
    """
    return (values * mask).sum() / mask.sum().clamp(min=1)
