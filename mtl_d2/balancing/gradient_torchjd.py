"""Gradient balancers whose weights torchjd computes from the Gramian."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .gradient import GradientBalancer

Weighting = Callable[[Tensor], Tensor]


class GramianBalancer(GradientBalancer):
    """A method without memory, whose weights do not depend on the scale of the gradients.

    Methods that give a mean of gradients (their weights for K equal gradients sum to 1) are multiplied by K, so that
    K equal gradients give their sum with every method, and a learning rate that suits the sum suits all.

    Args:
        weighting: a Gramian (K, K) to weights (K,), such as torchjd's ``UPGradWeighting()``.
        gives_mean: whether the weights are those of a mean.
        options: of :class:`GradientBalancer`.
    """

    def __init__(self, weights: Mapping[str, float], weighting: Weighting, *, gives_mean: bool, **options: Any) -> None:
        super().__init__(weights, **options)
        self.weighting = weighting
        self.gives_mean = gives_mean

    def weights_from_gramian(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        # None of the methods depends on the scale; torchjd takes a trace below 1e-4 for zero, and gradients at features
        # are as small as that.
        weights = self.weighting(gramian / gramian.diagonal().mean())
        return weights * len(tasks) if self.gives_mean else weights


class NashMTLBalancer(GradientBalancer):
    """``G w = 1 / w`` with the Gramian G over its Frobenius norm: the Nash bargaining solution of the tasks.

    Navon et al. 2022, Multi-Task Learning as a Bargaining Game, algorithm 1. The optimisation starts from the weights
    of the last step, which are remembered for each task. It is torchjd's ``NashMTL``, which wants the gradients, and
    gets a square root of their Gramian: ``w @ J`` and ``w @ sqrt(G)`` have the same norm.

    Args:
        aggregator: ``(number of tasks) -> torchjd.aggregation.NashMTL``.
        options: of :class:`GradientBalancer`.
    """

    last_solution: Tensor

    def __init__(self, weights: Mapping[str, float], aggregator: Callable[[int], Any], **options: Any) -> None:
        super().__init__(weights, **options)
        self._build = aggregator
        self._aggregators: dict[int, Any] = {}
        self.register_rows("last_solution", torch.ones(len(self.tasks), dtype=torch.float64))

    def weights_from_gramian(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        # By the number of tasks: each poses a problem of its own, whose making takes longer than its solution.
        if len(tasks) not in self._aggregators:
            self._aggregators[len(tasks)] = self._build(len(tasks))
        weighting, rows = self._aggregators[len(tasks)].weighting, self.rows(tasks)
        weighting.prvs_alpha = self.last_solution[rows].cpu().numpy()
        weights = weighting(square_root(gramian))
        self.last_solution[rows] = torch.from_numpy(np.asarray(weighting.prvs_alpha, np.float64)).to(self.last_solution)
        return weights


def square_root(gramian: Tensor) -> Tensor:
    """A (K, K) matrix R with ``R @ R.T`` equal to the Gramian, which may be singular."""
    values, vectors = torch.linalg.eigh(gramian)
    return vectors * values.clamp(min=0).sqrt()
