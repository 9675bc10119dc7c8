"""Homoscedastic uncertainty: every task has a learned variance."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .scalarization import Scalarization


class UncertaintyBalancer(Scalarization):
    """``S = sum_i exp(-s_i) L_i / 2 + s_i / 2`` with learned ``s_i = log sigma_i^2``, 0 at the start.

    Kendall, Gal and Cipolla 2018, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics, equation 10, with the logarithm of the variance as in section 3.2. S is least at s_i = log L_i.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.log_variance = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in self.tasks})

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        s = torch.stack([self.log_variance[task] for task in tasks])
        return 0.5 * (torch.exp(-s) * losses + s).sum()
