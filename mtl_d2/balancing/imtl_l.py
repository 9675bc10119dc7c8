"""The loss balance of impartial multi-task learning: every task has a learned scale."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .scalarization import Scalarization


class IMTLLBalancer(Scalarization):
    """``S = sum_i exp(s_i) L_i - s_i`` with learned ``s_i``, 0 at the start.

    Liu et al. 2021, Towards Impartial Multi-task Learning, section 3.2. S is least where every ``exp(s_i) L_i`` is 1.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.log_scale = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in self.tasks})

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        s = torch.stack([self.log_scale[task] for task in tasks])
        return (torch.exp(s) * losses - s).sum()
