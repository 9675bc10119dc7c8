"""The interface between the tasks' losses and what is minimised."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any, ClassVar
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor, nn

TaskLosses = Mapping[str, Mapping[str, Tensor]]

BALANCE_LOSS = "loss_balance"


class TaskWeigher(nn.Module):
    """What methods that weigh losses and those that weigh gradients have in common: tasks with prior weights.

    Args:
        weights: ``{task: alpha}`` for the configured tasks, in order.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    task_ids: Tensor

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._rows: list[str] = []
        for task, weight in weights.items():
            check_weight(task, weight)
        self.tasks = tuple(weights)
        self._ignored = {task for task, weight in weights.items() if weight == 0}

    def register_rows(self, name: str, values: Tensor) -> None:
        """A buffer (number of tasks,) with a value of each; one that is loaded is taken apart by the tasks' names.

        So the weights of a run with other tasks, or in another order, leave a task what was remembered of it.
        """
        self._rows.append(name)
        self.register_buffer(name, values)
        self.register_buffer("task_ids", torch.tensor([crc32(task.encode()) for task in self.tasks]))

    def match_rows(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Put the rows of a state that is to be loaded into the order of these tasks, in place.

        Its other tasks go, and those that it lacks keep what they have here. A loader that compares shapes before it
        loads, as Detectron2's does, calls this before.
        """
        if not any(f"{prefix}{name}" in state_dict for name in self._rows):
            return
        # A checkpoint without names, from before they were kept, has these tasks.
        theirs = state_dict.get(f"{prefix}task_ids", self.task_ids)
        for name in self._rows:
            found = state_dict.get(f"{prefix}{name}")
            if found is not None and found.shape == theirs.shape:
                state_dict[f"{prefix}{name}"] = self._by_name(name, theirs, found)
        state_dict[f"{prefix}task_ids"] = self.task_ids

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        self.match_rows(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _by_name(self, name: str, theirs: Tensor, found: Tensor) -> Tensor:
        of_task = dict(zip(theirs.tolist(), found, strict=True))
        own = zip(self.task_ids.tolist(), getattr(self, name).to(found.device), strict=True)
        return torch.stack([of_task.get(task, value) for task, value in own])

    def taking_part(self, tasks: Collection[str]) -> list[str]:
        """Those of ``tasks`` that are configured and have a prior weight, in the order of the configuration."""
        return [task for task in self.tasks if task in tasks and task not in self._ignored]

    def learned(self) -> dict[str, Tensor]:
        """``{name: scalar}`` of what the method has learned, for the log."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}


class Balancer(TaskWeigher, ABC):
    """Weighs tasks against each other: ``{task: {loss name: scalar}}`` to a flat dict whose sum is minimised.

    Anything learned or remembered is a parameter or a buffer, so that a checkpoint holds it. A task without a
    label in the global batch arrives as a zero that only keeps its parameters in the graph: it is passed on, but
    takes no part in the method, and neither does one whose prior weight is 0. A task with labels may have a loss of 0
    too, where every pixel of its crops is ignored: a method for which that would mean anything leaves it out as well.

    Under a plain trainer ``forward``, called once a step, is all there is. A trainer that splits a step into parts
    calls it for each part with the buffers that the step began with, and keeps those of a call with the parts' mean
    losses; where :attr:`weights_need_losses`, the mean losses are what it calls ``forward`` with in the first place.

    Args:
        weights: ``{task: alpha}`` for the configured tasks, in order: the method sees ``alpha_i * L_i``. Finite and
            at least 0.

    Attributes:
        weights_need_losses: the weights of a step are a function of its own losses.
        observes_update: after the optimizer's step the trainer calls :meth:`observe_update`.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    weights_need_losses: ClassVar[bool] = False
    observes_update: ClassVar[bool] = False
    prior: Tensor

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        # Not persistent: the config's weights hold, also when a run goes on with other ones.
        self.register_buffer("prior", torch.tensor(list(map(float, weights.values()))), persistent=False)

    @abstractmethod
    def weigh(self, totals: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        """The weights of a step; what the method remembers of the losses is updated.

        Args:
            totals: ``{task: scalar}`` of this rank, without prior weights, for the tasks that have a label in the
                global batch (see :func:`task_totals`).

        Returns:
            ``{task: scalar}`` for the same tasks, but for those that a loss of 0 leaves out, detached, the prior
            included; and the scalar ``loss_balance`` (see :meth:`forward`), or None for a method that has none in any
            step.
        """

    def forward(self, losses: TaskLosses, labelled: Collection[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weigh the losses.

        Args:
            losses: ``{task: {loss name: scalar}}``; every configured task, labelled or not.
            labelled: the tasks that have a label in the global batch.

        Returns:
            the flat ``{loss name: scalar}`` for the trainer to sum, and ``{task: weight}`` for the log. For a method
            S(L, theta) the first are ``w_i * loss`` with w = dS/dL, and ``loss_balance`` = S(L, theta) - sum_i w_i L_i
            without a gradient but for theta's: value and gradients of the sum, averaged over ranks, are those of S at
            the losses averaged over ranks.

        Raises:
            ValueError: two tasks use the same loss name.
        """
        weights, balance = self.weigh(task_totals(losses, labelled))
        flat = {} if balance is None else {BALANCE_LOSS: balance}
        for task, terms in losses.items():
            for name, loss in terms.items():
                if name in flat:
                    raise ValueError(f"loss {name!r} of task {task!r} is another task's too: rename one of them")
                flat[name] = weights[task] * loss if task in weights else loss
        return flat, weights

    def observe_update(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Learn from a step, where :attr:`observes_update`.

        Args:
            before, after: ``{task: scalar}`` as in :meth:`weigh`, of one batch before and after the optimizer's step.
        """
        raise NotImplementedError(f"{type(self).__name__} does not observe updates")

    def idle_parameters(self) -> list[nn.Parameter]:
        """The parameters of the tasks that took no part in the last step.

        They have a gradient (DistributedDataParallel waits for one): zero, but for a task that is out for its loss of
        0, which the parts of a split step do not know of each other. A trainer sets it to None before the optimizer's
        step: that, or momentum, would move them otherwise.
        """
        return []


def task_totals(losses: TaskLosses, labelled: Collection[str]) -> dict[str, Tensor]:
    """``{task: scalar}``, the sum of a task's losses, detached, in float32 at least, for the labelled tasks."""
    return {
        task: reduce(torch.add, map(_in_float32, terms.values())) for task, terms in losses.items() if task in labelled
    }


def _in_float32(loss: Tensor) -> Tensor:
    return loss.detach().to(torch.promote_types(loss.dtype, torch.float32))


def average_over_ranks(values: Tensor) -> Tensor:
    """The mean over all processes, on each; the values themselves in a job of one."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / dist.get_world_size()


def check_weight(task: str, weight: float) -> None:
    """Raise ValueError where a prior weight is not a number, negative or not finite."""
    if not (isinstance(weight, int | float) and math.isfinite(weight) and weight >= 0):
        raise ValueError(f"MODEL.MTL.BALANCER.WEIGHTS.{task} is {weight!r}: expected a finite number of at least 0")


def check_option(key: str, value: float, *, above: float | None = None, at_least: float | None = None) -> None:
    """Raise ValueError where an option ``MODEL.MTL.BALANCER.<key>`` is out of its range or not finite."""
    if above is not None and not (math.isfinite(value) and value > above):
        raise ValueError(f"MODEL.MTL.BALANCER.{key} is {value}: expected a finite number above {above}")
    if at_least is not None and not (math.isfinite(value) and value >= at_least):
        raise ValueError(f"MODEL.MTL.BALANCER.{key} is {value}: expected a finite number of at least {at_least}")
