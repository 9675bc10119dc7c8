"""Random loss weighting."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .base import Balancer


class RLWBalancer(Balancer):
    """``L = sum_i w_i alpha_i L_i`` with ``w = softmax(z)``, ``z ~ N(0, I)`` drawn anew in every step.

    Lin et al. 2022, Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning, algorithm 2.
    The weights of the tasks that take part sum to 1. They are a function of (seed, number of the draw), and so the
    same on all ranks and in a resumed run.

    Args:
        weights: ``{task: alpha}``.
        seed: at least 0.
    """

    draws: Tensor

    def __init__(self, weights: Mapping[str, float], *, seed: int) -> None:
        super().__init__(weights)
        self.seed = seed
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))

    def weigh(self, totals: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        weights = dict.fromkeys(totals, torch.zeros_like(self.prior[0]))
        tasks = self.taking_part(totals)
        if tasks:
            # Numbers for all tasks: those of one do not depend on who else is absent.
            z = self._draw(int(self.draws))
            rows = [self.tasks.index(task) for task in tasks]
            w = torch.softmax(z[rows], dim=0).to(self.prior)
            weights.update(
                {task: w[i] * self.prior[row] for i, (task, row) in enumerate(zip(tasks, rows, strict=True))}
            )
            self.draws += 1
        return weights, None

    def _draw(self, number: int) -> Tensor:
        state = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return torch.randn(len(self.tasks), generator=torch.Generator().manual_seed(state))
