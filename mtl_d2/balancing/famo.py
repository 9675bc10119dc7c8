"""Fast adaptive multi-task optimisation: the log losses fall at one rate."""

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .base import check_option
from .scalarization import Scalarization

logger = logging.getLogger(__name__)

_EPS = 1e-8
_BETA1, _BETA2 = 0.9, 0.999  # Adam's


class FAMOBalancer(Scalarization):
    """``S = c sum_i z_i log L_i`` with ``z = softmax(xi)`` over the tasks that take part, ``c = 1 / sum_i z_i / L_i``.

    Liu et al. 2023, FAMO: Fast Adaptive Multitask Optimization, algorithm 2. c is a constant to the gradient, so that
    ``w_i = c z_i / L_i`` sum to 1. After a step, :meth:`observe_update` moves the logits xi by Adam along the gradient
    of ``sum_i z_i (log L_i(before) - log L_i(after))``: who fell less gets more. Adam's state has its number of updates
    for each task, and only the rows of the tasks of a step move. Prior weights change all weights by one factor.

    Under a trainer that does not call ``observe_update`` all z stay equal, which is told once.

    Args:
        weights: ``{task: alpha}``.
        lr: of the logits, at least 0; the paper has 0.025.
        gamma: decay of the logits, at least 0; the paper has 0.001.

    Raises:
        ValueError: an option is out of its range.
    """

    weights_need_losses = True
    observes_update = True
    logits: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    updates: Tensor

    def __init__(self, weights: Mapping[str, float], *, lr: float = 0.025, gamma: float = 1e-3) -> None:
        super().__init__(weights)
        check_option("FAMO.LR", lr, at_least=0)
        check_option("FAMO.GAMMA", gamma, at_least=0)
        self.lr = lr
        self.gamma = gamma
        self._unobserved = 0
        for name in ("logits", "exp_avg", "exp_avg_sq", "updates"):
            self.register_rows(name, torch.zeros(len(self.tasks)))

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        self._warn_if_never_observed()
        z = torch.softmax(self.logits[self.rows(tasks)], dim=0)
        losses = losses + _EPS
        c = 1 / (z / losses).sum().detach()
        return c * (z * losses.log()).sum()

    def observe_update(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        self._unobserved = -1
        tasks = self.taking_part(before.keys() & after.keys())
        first, second = (self._average(x, tasks) for x in (before, after))
        there = self._not_zero(torch.minimum(first.abs(), second.abs()))
        if not there:
            return
        rows = self.rows([tasks[i] for i in there])
        first, second = ((x[there] * self.prior[rows] + _EPS).log() for x in (first, second))
        fall = first - second
        finite = fall.isfinite().all()
        with self.unchanged_unless(finite):
            z = torch.softmax(self.logits[rows], dim=0)
            self._adam(z * (fall - (z * fall).sum()) + self.gamma * self.logits[rows], rows)

    def learned(self) -> dict[str, Tensor]:
        return {f"logits.{task}": logit for task, logit in zip(self.tasks, self.logits.unbind(), strict=True)}

    def _adam(self, gradient: Tensor, rows: Tensor | slice) -> None:
        self.updates[rows] += 1
        self.exp_avg[rows] += (1 - _BETA1) * (gradient - self.exp_avg[rows])
        self.exp_avg_sq[rows] += (1 - _BETA2) * (gradient.square() - self.exp_avg_sq[rows])
        # 1 - beta^t, which float32 would round badly
        bias1, bias2 = (-torch.expm1(self.updates[rows] * math.log(beta)) for beta in (_BETA1, _BETA2))
        step = (self.exp_avg[rows] / bias1) / ((self.exp_avg_sq[rows] / bias2).sqrt() + _EPS)
        self.logits[rows] -= self.lr * step

    def _warn_if_never_observed(self) -> None:
        if self._unobserved < 0:
            return
        self._unobserved += 1
        if self._unobserved == 3:
            logger.warning(
                "MODEL.MTL.BALANCER.NAME famo: its task weights are not learned, because this trainer does not call "
                "observe_update() after a step; train with mtl_d2.engine.MultiTaskTrainer."
            )
