"""Smooth Tchebycheff scalarisation: mostly the worst task counts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .base import check_option
from .scalarization import Scalarization

_SMALLEST = 1e-8


class STCHBalancer(Scalarization):
    """``S = mu log sum_i exp((alpha_i L_i / n_i - z) / mu)``, a smooth maximum over the tasks that take part.

    Lin et al. 2024, Smooth Tchebycheff Scalarization for Multi-Objective Optimization, equation 5. The prior weights
    alpha are the paper's preferences; the ideal point z is 0, below which no loss falls; and, as in the paper's
    multi-task experiments, losses are measured in units of a nadir n: the mean loss of a task's first ``warmup``
    labelled steps. While these last, n is the mean so far, this step's loss included: all tasks start with a like say.

    Args:
        weights: ``{task: alpha}``.
        mu: > 0; the smaller, the closer to the maximum (the paper has 0.01 to 1).
        warmup: steps, at least 0; with 0 the losses are taken as they are (n is 1).

    Raises:
        ValueError: an option is out of its range.
    """

    weights_need_losses = True
    nadir: Tensor
    counts: Tensor

    def __init__(self, weights: Mapping[str, float], *, mu: float, warmup: int) -> None:
        super().__init__(weights)
        check_option("STCH.MU", mu, above=0)
        check_option("STCH.WARMUP", warmup, at_least=0)
        self.mu = mu
        self.warmup = warmup
        self.register_rows("nadir", torch.ones(len(self.tasks)))
        self.register_rows("counts", torch.zeros(len(self.tasks)))

    def remember(self, losses: Tensor, tasks: Sequence[str]) -> None:
        rows = self.rows(tasks)
        nadir, counts = self.nadir[rows].clone(), self.counts[rows].clone()
        warm = counts >= self.warmup
        self.nadir[rows] = torch.where(warm, nadir, nadir + (losses - nadir) / (counts + 1))
        self.counts[rows] = torch.where(warm, counts, counts + 1)

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        scaled = losses / self.nadir[self.rows(tasks)].clamp(min=_SMALLEST)
        return self.mu * torch.logsumexp(scaled / self.mu, dim=0)
