"""Balancers that minimise one scalar function of the tasks' losses."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .base import Balancer, average_over_ranks

_NOTHING = 1e-8  # a loss of up to this size says nothing


class Scalarization(Balancer):
    """``S(alpha * L, theta)``: a subclass gives S, and its weights dS/dL follow from it.

    Its parameters, one a task, stand in a ``ParameterDict`` under the task's name; its buffers have shape (K,), one row
    for each configured task, of which it touches the rows of the tasks that take part alone.

    A task whose loss, averaged over ranks, is 0 is as one without a label where the weights depend on the losses: a
    logarithm or a product of losses would leave nothing for the others. Elsewhere its weight is what it would be, and
    nothing is remembered of it; its parameter is an idle one.

    A step with a loss that is infinite or NaN on any rank (as the first steps in float16 have) changes no buffer and
    gives theta a zero gradient; weights that are a function of the losses are then the last finite ones, or alpha.
    """

    last_weights: Tensor

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self._idle: set[str] = set()
        if self.weights_need_losses:
            self.register_rows("last_weights", self.prior.clone())

    @abstractmethod
    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """S.

        Args:
            losses: (N,) ``alpha_i * L_i``, finite, averaged over ranks, of the N >= 1 tasks that take part.
            tasks: their names.
        """

    def remember(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Update buffers with the losses (N,) of a step, without priors.

        Called before :meth:`scalarize` where the weights need the losses of the step, and after it elsewhere: what one
        part of a step has no label of then weighs as in the others.
        """

    def weigh(self, totals: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        tasks = self.taking_part(totals)
        losses = self._average(totals, tasks)
        there = self._not_zero(losses)
        self._idle = set(self.tasks) - {tasks[i] for i in there}
        balance = torch.zeros_like(self.prior[0])
        weights = dict.fromkeys(self._ignored & totals.keys(), balance)
        if self.weights_need_losses:
            tasks, losses, there = [tasks[i] for i in there], losses[there], list(range(len(there)))
        if tasks:
            found, balance = self._weights_and_balance(losses, tasks, there)
            weights.update(zip(tasks, found.unbind(), strict=True))
        for parameter in self.idle_parameters():
            balance = balance + parameter * 0.0
        # A method that is linear in the losses and learns nothing is the weighted sum itself.
        is_weighted_sum = not self.weights_need_losses and next(self.parameters(), None) is None
        return weights, None if is_weighted_sum else balance

    def _weights_and_balance(self, totals: Tensor, tasks: Sequence[str], there: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = self.rows(tasks)
        finite = totals.isfinite().all()
        totals = torch.where(finite, totals, 1.0)  # stands in: what comes of it is not used, but must be finite
        if self.weights_need_losses:
            self._remember(totals, tasks, there, finite)
        with torch.enable_grad():
            losses = (totals * self.prior[rows]).requires_grad_()
            value = self.scalarize(losses, tasks)
            (slope,) = torch.autograd.grad(value, losses, retain_graph=True)
        balance = value - (slope * losses).sum().detach()
        weights = slope * self.prior[rows]
        if self.weights_need_losses:
            balance = balance.detach()
            finite = finite & slope.isfinite().all()
            weights = torch.where(finite, weights, self.last_weights[rows])
            self.last_weights[rows] = weights
        else:
            self._remember(totals, tasks, there, finite)
        return weights, torch.where(finite, balance, 0.0)

    def _remember(self, totals: Tensor, tasks: Sequence[str], there: Sequence[int], finite: Tensor) -> None:
        if there:
            with self.unchanged_unless(finite):
                self.remember(totals[there], [tasks[i] for i in there])

    def _average(self, totals: Mapping[str, Tensor], tasks: Sequence[str]) -> Tensor:
        if not tasks:
            return self.prior[:0]
        return average_over_ranks(torch.stack([totals[task].detach().to(self.prior) for task in tasks]))

    @staticmethod
    def _not_zero(losses: Tensor) -> list[int]:
        """Index of the losses (N,) that are not 0, NaN among them; one host sync."""
        return [i for i, size in enumerate(losses.abs().tolist()) if not size <= _NOTHING]

    @contextmanager
    def unchanged_unless(self, finite: Tensor) -> Iterator[None]:
        """What is written to buffers inside holds where the scalar ``finite`` is True; without a host sync."""
        before = {name: buffer.clone() for name, buffer in self.named_buffers()}
        with torch.no_grad():
            yield
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.where(finite, buffer, before[name]))

    def rows(self, tasks: Sequence[str]) -> Tensor | slice:
        """Index of the tasks' rows in the buffers; all of them are a slice, which costs no copy to the GPU."""
        if len(tasks) == len(self.tasks):
            return slice(None)
        return torch.tensor([self.tasks.index(task) for task in tasks], device=self.prior.device)

    def idle_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if name.rpartition(".")[2] in self._idle]
