"""Losses for edge maps, where one pixel in fifty is an edge.

All of them, those of edge_tracing.py and edge_ranking.py too, take logits (N, H, W) of any float type (float32 is
used inside) and targets (N, H, W) in {0, 1, 255}: other, edge, ignored. All return a scalar: per image the sum over
the valid pixels divided by their number (dice and rank are ratios already), then the mean over the images that have
a valid pixel; zero with a gradient where none has one. What is ignored may be inf or NaN.
In the formulas p is sigmoid(logit), P and N are the edge pixels and the other valid pixels of an image, and their
numbers.

Peak memory: no tensor is larger than the logits in float32, and of that size 4 at most (9 for focal) are kept for the
backward pass: 16 (36) MiB for 1024x1024.
"""

import torch.nn.functional as F
from torch import Tensor

from ._reduce import at_least_float32, image_mean
from .dice import binary_dice_loss
from .focal import sigmoid_focal_loss

IGNORE = 255


def hed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """-b sum_P log p - (1 - b) sum_N log(1 - p), b = N / (P + N).

    "Holistically-Nested Edge Detection" (Xie and Tu 2015), equation 2. Without an edge b = 1, and the loss is
    0.
    """
    positive, negative = _fractions(targets)
    return _weighted_bce(logits, targets, positive_weight=negative, negative_weight=positive)


def rcf_loss(logits: Tensor, targets: Tensor, *, negative_scale: float = 1.1) -> Tensor:
    """-N / (P + N) sum_P log p - 1.1 P / (P + N) sum_N log(1 - p).

    "Richer Convolutional Features for Edge Detection" (Liu et al. 2017), equations 1 and 2. Pixels that few
    annotators marked (0 < y <= eta there) come as 255.
    """
    positive, negative = _fractions(targets)
    return _weighted_bce(logits, targets, positive_weight=negative, negative_weight=negative_scale * positive)


def fixed_weight_loss(logits: Tensor, targets: Tensor, *, positive_weight: float = 0.95) -> Tensor:
    """-0.95 sum_P log p - 0.05 sum_N log(1 - p): the same weights for every image.

    The weights of "Multi-Task Learning for Dense Prediction Tasks: A Survey" (Vandenhende et al. 2021). An
    image without an edge still teaches that it has none.
    """
    shape = (logits.shape[0], 1)
    positive = at_least_float32(logits).new_full(shape, positive_weight)
    return _weighted_bce(logits, targets, positive_weight=positive, negative_weight=1 - positive)


def edge_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """-alpha sum_P (1 - p)^gamma log p - (1 - alpha) sum_N p^gamma log(1 - p), in float32.

    "Focal Loss for Dense Object Detection" (Lin et al. 2017), equation 5. With a negative alpha there are no weights:
    equation 4.
    """
    valid = targets != IGNORE
    loss = sigmoid_focal_loss(logits.masked_fill(~valid, 0), (targets == 1).to(logits.dtype), alpha=alpha, gamma=gamma)
    return image_mean(loss, valid)


def edge_dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """`binary_dice_loss` of the edge pixels: crisp edges, but unstable as the only loss."""
    return binary_dice_loss(logits, targets, ignore_index=IGNORE)


def _fractions(targets: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 1) fractions of edge and of other pixels among the valid ones; both zero where none is valid."""
    positive = (targets == 1).flatten(1).sum(1, keepdim=True)
    valid = (targets != IGNORE).flatten(1).sum(1, keepdim=True)
    return positive / valid.clamp(min=1), (valid - positive) / valid.clamp(min=1)


def _weighted_bce(logits: Tensor, targets: Tensor, *, positive_weight: Tensor, negative_weight: Tensor) -> Tensor:
    """Binary cross-entropy with (N, 1) weights per image, normalised as the module says."""
    valid = targets != IGNORE
    # Ignored logits are cleared, so that not even an inf there reaches the gradient.
    scores = at_least_float32(logits).masked_fill(~valid, 0)
    labels = (targets == 1).to(scores.dtype)
    positive_weight = positive_weight.to(scores).unsqueeze(-1)
    weights = labels * positive_weight + (1 - labels) * negative_weight.to(scores).unsqueeze(-1)
    loss = F.binary_cross_entropy_with_logits(scores, labels, weights, reduction="none")
    return image_mean(loss, valid)
