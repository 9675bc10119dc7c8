"""Dynamic weight average: tasks whose loss falls slowly weigh more."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .base import check_option
from .scalarization import Scalarization


class DWABalancer(Scalarization):
    """``L = sum_i w_i alpha_i L_i`` with ``w = N softmax(r / T)`` over the N tasks that take part.

    ``r_i = L_i(t-1) / L_i(t-2)`` compares the mean losses of the last two periods, and is 1 until there are two.
    Liu, Johns and Davison 2019, End-to-End Multi-Task Learning with Attention, equation 7, where a period is an epoch.
    A task's period is so many steps in which the task has labels: others do not touch its means.

    Args:
        weights: ``{task: alpha}``.
        period: steps, at least 1.
        temperature: T > 0; the higher, the more alike the weights. The paper has 2.

    Raises:
        ValueError: an option is out of its range.
    """

    sums: Tensor
    counts: Tensor
    newer: Tensor
    older: Tensor

    def __init__(self, weights: Mapping[str, float], *, period: int, temperature: float = 2.0) -> None:
        super().__init__(weights)
        check_option("DWA.PERIOD", period, at_least=1)
        check_option("DWA.TEMPERATURE", temperature, above=0)
        self.period = period
        self.temperature = temperature
        for name in ("sums", "counts", "newer", "older"):  # means of 0 stand for none
            self.register_rows(name, torch.zeros(len(self.tasks)))

    def remember(self, losses: Tensor, tasks: Sequence[str]) -> None:
        rows = self.rows(tasks)
        sums, counts, newer, older = (x[rows].clone() for x in (self.sums, self.counts, self.newer, self.older))
        sums, counts = sums + losses, counts + 1
        mean = sums / counts
        is_full = counts >= self.period
        self.older[rows] = torch.where(is_full, torch.where(newer > 0, newer, mean), older)
        self.newer[rows] = torch.where(is_full, mean, newer)
        self.sums[rows] = torch.where(is_full, 0.0, sums)
        self.counts[rows] = torch.where(is_full, 0.0, counts)

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        rows = self.rows(tasks)
        older, newer = self.older[rows], self.newer[rows]
        rates = torch.where(older > 0, newer / older, 1.0)
        return (len(tasks) * torch.softmax(rates / self.temperature, dim=0) * losses).sum()
