"""The interface of methods that weigh the gradients which tasks give to what they share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .base import TaskWeigher

CUTS = ("features", "parameters")
EXACT_PERIOD = 4  # default steps between two exact Jacobians, each of which costs a backward pass of the trunk a task


class GradientBalancer(TaskWeigher, ABC):
    """Weighs the gradients of ``alpha_i * L_i`` with respect to the shared part by their inner products.

    The weights are for the shared part: a head keeps the gradient of its own loss. ``MultiTaskTrainer`` computes the
    Gramian, so that a plain trainer cannot use such a method.

    A task without a label in the global batch has no row, and nothing that is remembered of it changes; neither takes
    part one whose prior weight is 0, or whose gradient is. A single task has weight 1.

    Between two refreshes (``period``) the tasks that have labels keep the weights that each got at the last refresh it
    took part in, 1 before its first. These weights were made for the tasks of that step: where others are absent now,
    their sum may be another one.

    Args:
        weights: ``{task: alpha}`` for the configured tasks, in order: finite and at least 0.
        cut: "features" for gradients with respect to the shared features, which is one backward pass of the trunk;
            "parameters" for those with respect to the trunk's parameters, which is one a task.
        period: steps from one refresh of the weights to the next; 0 for 1 with features, EXACT_PERIOD with parameters.

    Raises:
        ValueError: a weight is negative or not finite, or an option is out of its range.
    """

    stored: Tensor

    def __init__(self, weights: Mapping[str, float], *, cut: str = "features", period: int = 0) -> None:
        super().__init__(weights)
        if cut not in CUTS:
            raise ValueError(f"MODEL.MTL.BALANCER.GRADIENT.CUT is {cut!r}: expected one of {list(CUTS)}")
        if period < 0:
            raise ValueError(f"MODEL.MTL.BALANCER.GRADIENT.PERIOD is {period}: expected 0 or more")
        self.prior = dict(weights)
        self.cut = cut
        self.period = period or (1 if cut == "features" else EXACT_PERIOD)
        self.register_rows("stored", torch.ones(len(self.tasks), dtype=torch.float64))

    @abstractmethod
    def weights_from_gramian(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """The weights of a step; what the method remembers is updated.

        Args:
            gramian: (K, K) float64 on the CPU, finite: inner products of the gradients of ``alpha_i * L_i`` of the
                K >= 2 tasks that take part, each the mean over the global batch.
            losses: (K,) ``alpha_i * L_i``, likewise.
            tasks: their names.

        Returns:
            (K,), on the CPU.
        """

    def refresh(self, gramian: Tensor, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """The weights (K,) of a step, see :meth:`weights_from_gramian`; they are stored for the steps to come.

        Where the Gramian is infinite or NaN, as in the first steps in float16, all weights are 1, and nothing is
        remembered. That holds too for a task whose gradient is zero, as where every pixel of its crops is ignored: to
        most methods a row of zeros says to stand still. The others fare as if it were absent.
        """
        weights = torch.ones(len(tasks), dtype=torch.float64)
        if not (gramian.isfinite().all() and losses.isfinite().all()):
            return weights
        there = [i for i, square in enumerate(gramian.diagonal().tolist()) if square > 0]
        names = [tasks[i] for i in there]
        if len(there) > 1:
            weights[there] = self.weights_from_gramian(gramian[there][:, there], losses[there], names).double()
        self.stored[self.rows(names)] = weights[there].to(self.stored)
        return weights

    def last(self, tasks: Sequence[str]) -> Tensor:
        """The weights (K,) that the tasks got last, on the balancer's device."""
        return self.stored[self.rows(tasks)]

    def rows(self, tasks: Sequence[str]) -> list[int]:
        """Index of the tasks in buffers of shape (number of configured tasks,)."""
        return [self.tasks.index(task) for task in tasks]

    def forward(self, *args: Any) -> Any:
        """
        Raises:
            RuntimeError: always: losses are all that a model's forward pass has.
        """
        raise RuntimeError(
            f"{type(self).__name__} weighs gradients, which needs the step of mtl_d2.engine.MultiTaskTrainer: train "
            "with it (tools/train_net.py does), or choose a MODEL.MTL.BALANCER.NAME that weighs losses, such as 'fixed'"
        )
