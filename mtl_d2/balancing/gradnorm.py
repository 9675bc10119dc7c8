"""GradNorm: the gradients of all tasks have a norm that follows from how fast they learn."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .base import check_option
from .gradient import GradientBalancer

_SMALLEST = 1e-3  # weight


class GradNormBalancer(GradientBalancer):
    """Weights w, learned by gradient descent on ``sum_i |w_i n_i - m r_i^a| / m``, with their sum kept.

    ``n_i`` is the norm of the gradient of ``alpha_i L_i``, m the mean of ``w_i n_i``, and ``r_i`` the relative inverse
    training rate: ``L_i / L_i(0)`` over its mean. ``m r_i^a`` is a constant to the gradient. Chen et al. 2018,
    GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks, equations 1 and 2,
    algorithm 1.

    The paper's gradients are those of one shared layer; here they are those of the cut: the shared features, or all
    shared parameters. Division by m makes the learning rate one of weights, whatever the unit of the gradients is.
    ``L_i(0)`` is the loss of the first step with gradients of task i and another one. The weights of all tasks sum
    to their number; those of a step's tasks keep their sum.

    Args:
        asymmetry: a >= 0; 0 for equal norms. The paper has 1.5 on NYUv2.
        lr: of the weights, above 0; the paper has 0.025.
        options: of :class:`GradientBalancer`.

    Raises:
        ValueError: an option is out of its range.
    """

    weights: Tensor
    first_losses: Tensor

    def __init__(
        self, weights: Mapping[str, float], *, asymmetry: float = 1.5, lr: float = 0.025, **options: Any
    ) -> None:
        super().__init__(weights, **options)
        check_option("GRADNORM.ASYMMETRY", asymmetry, at_least=0)
        check_option("GRADNORM.LR", lr, above=0)
        self.asymmetry = asymmetry
        self.lr = lr
        self.register_rows("weights", torch.ones(len(self.tasks), dtype=torch.float64))
        self.register_rows("first_losses", torch.zeros(len(self.tasks), dtype=torch.float64))  # 0: not seen yet

    def weights_from_gramian(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        rows = self.rows(tasks)
        weights, first = self.weights[rows].cpu(), self.first_losses[rows].cpu()
        first = torch.where(first > 0, first, losses.double())
        self.first_losses[rows] = first.to(self.first_losses)
        self.weights[rows] = self._descend(weights, gramian.diagonal().clamp(min=0).sqrt(), losses / first).to(
            self.weights
        )
        return weights

    def _descend(self, weights: Tensor, norms: Tensor, ratios: Tensor) -> Tensor:
        """The weights of the next step, from the norms n and ``L / L(0)`` of this one, all of them (K,)."""
        mean = (weights * norms).mean()
        if mean == 0 or not ratios.isfinite().all():
            return weights
        target = mean * (ratios / ratios.mean()) ** self.asymmetry
        slope = torch.sign(weights * norms - target) * norms / mean
        moved = (weights - self.lr * slope).clamp(min=_SMALLEST)
        return moved * weights.sum() / moved.sum()
