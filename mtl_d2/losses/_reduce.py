"""What every loss needs: enough precision, and means that survive an empty set."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Cast half precision to float32: a sum over pixels overflows fp16 and stalls in bf16. float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def total_weight(targets: Tensor, weight: Tensor | None, *, ignore_index: int) -> Tensor:
    """What a weighted mean over the valid targets is divided by, as torch's cross-entropy: the sum of their weights.

    Args:
        targets: (N, ...) long, class ids and ``ignore_index``.
        weight: (K,) of each class; None for ones.

    Returns:
        Scalar; 1 where it would be 0.
    """
    valid = targets != ignore_index
    if weight is None:
        return valid.sum().clamp(min=1)
    # In float64: weights of 1 then give the number of pixels, however many there are.
    total = (weight[targets.masked_fill(~valid, 0)] * valid).sum(dtype=torch.float64).to(weight.dtype)
    return torch.where(total > 0, total, 1)


def check_weight(weight: Tensor | None, num_classes: int, name: str) -> None:
    """Raise ValueError for class weights of another shape than (K,); ``name`` is the loss."""
    if weight is not None and weight.shape != (num_classes,):
        raise ValueError(f"{name}: weight has shape {tuple(weight.shape)}, expected ({num_classes},)")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is set, zero (with a gradient) where it is set nowhere.

    Args:
        values: any shape, finite wherever the mask is unset too.
        mask: bool, same shape.
    """
    return (values * mask).sum() / mask.sum().clamp(min=1)


def image_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over each image's valid pixels, then over the images that have one; zero with a gradient where none has.

    Args:
        values: (N, H, W), finite wherever they are not valid too.
        valid: (N, H, W) bool.
    """
    pixels = valid.flatten(1).sum(1)
    image_values = (values * valid).flatten(1).sum(1) / pixels.clamp(min=1)
    return masked_mean(image_values, pixels > 0)
