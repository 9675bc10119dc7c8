"""Soft dice losses: of the classes of a semantic map, and of a binary map."""

import torch
from torch import Tensor

from ._reduce import at_least_float32, check_weight, masked_mean


def dice_loss(logits: Tensor, targets: Tensor, *, weight: Tensor | None = None, ignore_index: int = 255) -> Tensor:
    """One minus the mean soft dice of the classes present, per image, then the mean over images.

    "V-Net" (Milletari et al. 2016), section 3, for each class k: D_k = 2 sum p_k y_k / (sum p_k^2 + sum
    y_k^2), with p the softmax. Only classes with a valid pixel in the image count: a class that is wrongly
    predicted takes its probability from a class that is present, which sees it. Images without a valid pixel
    are left out. Every class of an image counts alike, however few its pixels are; `weight` changes that.

    Args:
        logits: (N, K, H, W), any float type; float32 is used inside.
        targets: (N, H, W) long, in [0, K) or `ignore_index`.
        weight: (K,) of each class in the mean, >= 0; None for ones.

    Returns:
        Scalar in [0, 1].

    Raises:
        ValueError: `weight` of the wrong shape.
    """
    check_weight(weight, logits.shape[1], "dice_loss")
    valid = (targets != ignore_index).unsqueeze(1)
    # Ignored pixels are cleared before the softmax, so that not even an inf there reaches the gradient.
    probs = at_least_float32(logits).masked_fill(~valid, 0).softmax(dim=1) * valid
    labels = targets.unsqueeze(1).masked_fill(~valid, 0)
    one_hot = torch.zeros_like(probs).scatter_(1, labels, valid.to(probs.dtype))
    overlap = (probs * one_hot).flatten(2).sum(-1)  # (N, K)
    target_size = one_hot.flatten(2).sum(-1)
    size = probs.square().flatten(2).sum(-1) + target_size
    present = target_size > 0
    dice = 2 * overlap / size.masked_fill(~present, 1)
    counted = present.to(dice.dtype) if weight is None else present * weight.to(dice)
    total = counted.sum(1)
    image_loss = 1 - (dice * counted).sum(1) / total.masked_fill(total == 0, 1)
    return masked_mean(image_loss, total > 0)


def binary_dice_loss(logits: Tensor, targets: Tensor, *, ignore_index: int = 255) -> Tensor:
    """1 - 2 sum p y / (sum p^2 + sum y^2) per image, then the mean over the images with a valid pixel.

    "Learning to Predict Crisp Boundaries" (Deng et al. 2018), equation 1, has the inverse of this overlap,
    which has no bound. An image without a positive has no overlap to gain: its loss is zero, not a constant
    one.

    Args:
        logits: (N, H, W), any float type; float32 is used inside. p = sigmoid(logits).
        targets: (N, H, W) in {0, 1, ignore_index}.

    Returns:
        Scalar in [0, 1].
    """
    valid = targets != ignore_index
    probs = (at_least_float32(logits).masked_fill(~valid, 0).sigmoid() * valid).flatten(1)
    labels = (targets == 1).to(probs.dtype).flatten(1)
    positives = labels.sum(1)
    size = probs.square().sum(1) + positives
    image_loss = 1 - 2 * (probs * labels).sum(1) / size.clamp(min=1)
    image_loss = image_loss * (positives > 0)
    return masked_mean(image_loss, valid.flatten(1).any(1))
