"""The interface between the tasks' losses and what is minimised."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

TaskLosses = Mapping[str, Mapping[str, Tensor]]


class Balancer(nn.Module, ABC):
    """Weighs tasks against each other: ``{task: {loss name: scalar}}`` to a flat dict whose sum is minimised.

    Anything learned or remembered is a parameter or a buffer, so that a checkpoint holds it. A task without a
    label in the global batch arrives as a zero that only keeps its parameters in the graph: it is passed on, but
    takes no part in the method (see :meth:`task_weights`).

    Class attributes:
        weights_need_losses: the weights depend on the losses of the same step, so that a step in parts has to see them
            all before any backward pass.
        observes_update: after the optimizer's step the trainer computes the losses of the same batch again, for
            ``observe_update``.

    Args:
        tasks: names of the configured tasks, in order.
    """

    weights_need_losses: ClassVar[bool] = False
    observes_update: ClassVar[bool] = False

    def __init__(self, tasks: Collection[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @abstractmethod
    def task_weights(self, totals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weight of each task in ``totals``.

        Args:
            totals: ``{task: scalar}``, the sum of a task's losses, detached, for the tasks that have a label.

        Returns:
            ``{task: scalar}``, detached, for the same tasks.
        """

    def forward(self, losses: TaskLosses, labelled: Collection[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weigh the losses.

        Args:
            losses: ``{task: {loss name: scalar}}``; every configured task, labelled or not.
            labelled: the tasks that have a label in the global batch.

        Returns:
            the flat ``{loss name: scalar}`` for the trainer to sum, and ``{task: weight}`` for the log.

        Raises:
            ValueError: two tasks use the same loss name.
        """
        totals = {task: reduce(torch.add, losses[task].values()).detach() for task in losses if task in labelled}
        weights = self.task_weights(totals)
        flat: dict[str, Tensor] = {}
        for task, terms in losses.items():
            for name, loss in terms.items():
                if name in flat:
                    raise ValueError(f"loss {name!r} of task {task!r} is another task's too: rename one of them")
                flat[name] = weights[task] * loss if task in weights else loss
        return flat, weights
