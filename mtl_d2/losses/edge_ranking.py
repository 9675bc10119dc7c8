"""An edge loss of ranks: every edge pixel above every other one, whatever their share."""

import torch
from torch import Tensor

from ._reduce import at_least_float32
from .edge import IGNORE


def edge_rank_loss(logits: Tensor, targets: Tensor, *, pixels: int = 512, width: float = 0.4) -> Tensor:
    """1 - average precision of the edge pixels among a sample of the pixels, per image, then the mean over images.

    With s the logits, i in P, j in N: 1/P sum_i FP_i / rank_i, where FP_i = sum_j H(s_j - s_i) is how many others
    lie above i, rank_i = FP_i + 1 + sum_{k in P, k != i} H(s_k - s_i), and H(x) = clip(x / (2 width) + 1/2, 0, 1)
    is a step that is smoothed so that it has a gradient.

    "RankED: Addressing Imbalance and Uncertainty in Edge Detection Using Ranking-based Losses" (Cetinkaya et al.
    2024), the ranking loss with its smoothed step; its sorting loss needs the annotators' agreement on each pixel,
    which the labels here do not have. Our reading: a random sample, so that the pairs fit into memory, and the
    gradient is that of the quotient itself ("Smooth-AP", Brown et al. 2020) in the place of the error-driven update.

    Peak memory: no tensor has more than 8 pixels^2 pairs, or elements of the logits where that is more; 10 pixels^2
    float32 an image are kept for the backward pass, 10 MiB for 512, whatever its size, and 3 of the logits' size.

    Args:
        logits: (N, H, W), any float type; float32 is used inside.
        targets: (N, H, W) in {0, 1, 255}.
        pixels: largest number of edge pixels of an image; of the others eight times as many.
        width: of the step, in logits, > 0.

    Returns:
        Scalar in [0, 1]; zero with a gradient where an image has no edge or nothing else.
    """
    valid = targets != IGNORE
    scores = at_least_float32(logits).masked_fill(~valid, 0)
    image_losses = [scores.flatten()[:0].sum()]  # zero, with a gradient where no image gives one
    for score, label, known in zip(scores, targets, valid, strict=True):
        edges = _sample(score[label == 1], pixels)
        others = _sample(score[known & (label != 1)], 8 * pixels)
        if len(edges) and len(others):
            image_losses.append(_one_minus_ap(edges, others, width))
    labelled = valid.flatten(1).any(1)
    return torch.stack(image_losses).sum() / labelled.sum().clamp(min=1)


def _sample(scores: Tensor, count: int) -> Tensor:
    """At most `count` of the (M,) scores, at random."""
    if len(scores) <= count:
        return scores
    return scores[torch.randperm(len(scores), device=scores.device)[:count]]


def _one_minus_ap(edges: Tensor, others: Tensor, width: float) -> Tensor:
    """From the logits (P,) of edges and (N,) of others."""
    false = _step(others - edges[:, None], width).sum(1)
    # Of itself an edge counts whole, not by the half that the step has at 0.
    true = _step(edges - edges[:, None], width).sum(1) + 0.5
    return (false / (false + true)).mean()


def _step(difference: Tensor, width: float) -> Tensor:
    return (difference / (2 * width) + 0.5).clamp(0, 1)
