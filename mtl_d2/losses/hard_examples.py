"""Online hard examples: which pixels or regions a loss is taken over, by how wrong the network is there."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ._reduce import at_least_float32


def hardest(losses: Tensor, count: int) -> Tensor:
    """(M,) bool: the ``count`` largest of M losses; of equal ones the earlier. A NaN counts as infinite.

    Args:
        losses: (M,).
        count: all M where it is larger, none where it is 0.
    """
    if count >= len(losses):
        return torch.ones_like(losses, dtype=torch.bool)
    if count <= 0:
        return torch.zeros_like(losses, dtype=torch.bool)
    losses = losses.masked_fill(losses.isnan(), math.inf)  # which compares, as a NaN does not
    smallest = losses.topk(count, sorted=False).values.amin()
    kept = losses > smallest
    ties = losses == smallest
    return kept | ties & (ties.cumsum(0) <= count - kept.sum())


@dataclass(frozen=True)
class HardPixels:
    """Which labelled pixels of a batch are hard: their own class has a low probability there.

    Either the FRACTION of the labelled pixels with the lowest probability ("Bridging Category-level and Instance-level
    Semantic Image Segmentation", Wu et al. 2016, section 3.1, online bootstrapping), or all whose probability is at
    most THRESHOLD, and at least the share MIN_KEPT of them. Class weights have no say in it.

    Attributes:
        fraction: of the labelled pixels, in (0, 1]; 1 for all.
        threshold: a probability in [0, 1); 0 for none.
        min_kept: share of the labelled pixels that is kept with ``threshold``, in [0, 1].

    Raises:
        ValueError: a value out of its range, or both ways at once.
    """

    fraction: float = 1.0
    threshold: float = 0.0
    min_kept: float = 0.0625

    def __post_init__(self) -> None:
        key = "MODEL.MTL.SEM_SEG_HEAD.OHEM"
        if not 0 < self.fraction <= 1:
            raise ValueError(f"{key}.FRACTION is {self.fraction}, expected a share of the pixels in (0, 1], 1 for all")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"{key}.THRESHOLD is {self.threshold}, expected a probability in [0, 1), 0 for none")
        if not 0 <= self.min_kept <= 1:
            raise ValueError(f"{key}.MIN_KEPT is {self.min_kept}, expected a share of the pixels in [0, 1]")
        if self.fraction < 1 and self.threshold > 0:
            raise ValueError(f"{key} has a FRACTION, {self.fraction}, and a THRESHOLD, {self.threshold}: set one")

    @property
    def all_pixels(self) -> bool:
        """Whether nothing is left out."""
        return self.fraction == 1 and self.threshold == 0

    @torch.no_grad()
    def __call__(self, logits: Tensor, targets: Tensor, *, ignore_index: int = 255) -> Tensor:
        """The targets, with ``ignore_index`` at the pixels that are not hard.

        Args:
            logits: (N, K, ...).
            targets: (N, ...) long, in [0, K) or ``ignore_index``, which stays.
        """
        if self.all_pixels:
            return targets
        valid = targets != ignore_index
        surprise = F.cross_entropy(at_least_float32(logits), targets, ignore_index=ignore_index, reduction="none")
        hard = torch.zeros_like(valid)
        hard[valid] = self.choose(surprise[valid])
        return targets.masked_fill(~hard, ignore_index)

    def choose(self, surprise: Tensor) -> Tensor:
        """(M,) bool, from -log(probability of the pixel's class), (M,)."""
        share = self.min_kept if self.threshold else self.fraction
        # Rounded first: 0.07 of 100 pixels is 7 of them, not 8.
        kept = hardest(surprise, math.ceil(round(share * len(surprise), 6)))
        return kept | ~(surprise < -math.log(self.threshold)) if self.threshold else kept
