"""What the log of a training says of each task: its loss, and what it weighs."""

from collections.abc import Collection, Mapping
from functools import reduce

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor

PERIOD = 20  # steps between two entries of a task; each entry costs a host sync on a GPU


class TaskLog:
    """Writes ``task/<task>``, ``balance/<task>`` and ``balancer/<name>`` to Detectron2's event storage.

    Attributes:
        tasks: that are written; None for all.
    """

    def __init__(self, tasks: Collection[str] | None = None) -> None:
        self.tasks = tasks
        self._last: dict[str, int] = {}  # {entry: the step of the last one}

    def write(
        self, losses: Mapping[str, Mapping[str, Tensor]], weights: Mapping[str, Tensor], learned: Mapping[str, Tensor]
    ) -> None:
        """
        Args:
            losses: ``{task: {loss name: scalar}}`` before balancing.
            weights: ``{task: weight}`` of those that are in this step's sum.
            learned: ``{name: value}`` that the balancer learns.
        """
        try:
            storage = get_event_storage()
        except AssertionError:  # no trainer around the model
            return
        for task, weight in weights.items():
            if (self.tasks is None or task in self.tasks) and self._is_due(task, storage.iter):
                storage.put_scalar(f"task/{task}", float(reduce(torch.add, losses[task].values()).detach()))
                storage.put_scalar(f"balance/{task}", float(weight))
        for name, value in learned.items():
            if self._is_due(f"balancer/{name}", storage.iter):
                storage.put_scalar(f"balancer/{name}", float(value))

    def _is_due(self, entry: str, step: int) -> bool:
        """Not every so many steps of the run: a task that is active in some may never be in those."""
        if 0 <= step - self._last.get(entry, -PERIOD) < PERIOD:
            return False
        self._last[entry] = step
        return True
