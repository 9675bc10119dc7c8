"""Losses between two readings: they stay on their device, so that a step needs no word from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsFloat

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor

Scalars = Mapping[str, Tensor | SupportsFloat]


@dataclass(frozen=True)
class StepLog:
    """What a rank has to tell of a step.

    Attributes:
        losses: what was minimised, ``{loss name: value}``.
        others: such as ``balance/<task>``.
        data_time: seconds that the step waited for its images.
    """

    losses: Scalars
    others: Scalars
    data_time: float


@dataclass
class LossLog:
    """The steps since the last reading."""

    steps: list[StepLog] = field(default_factory=list)

    def read(self) -> list[StepLog]:
        """Bring all of them to the host, in one copy, and forget them."""
        steps, self.steps = self.steps, []
        tensors = [x for s in steps for x in (*s.losses.values(), *s.others.values()) if isinstance(x, Tensor)]
        if not tensors:
            return steps
        numbers = iter(torch.stack([x.detach().float().to(tensors[0].device) for x in tensors]).tolist())

        def floats(scalars: Scalars) -> dict[str, float]:
            return {key: next(numbers) if isinstance(x, Tensor) else float(x) for key, x in scalars.items()}

        return [StepLog(floats(s.losses), floats(s.others), s.data_time) for s in steps]


def write_means(storage: EventStorage, ranks: Sequence[Sequence[StepLog]]) -> None:
    """Write the means, over ranks and steps, of all scalars that were read, and the sum of the losses'."""
    steps = [step for rank in ranks for step in rank]
    if not steps:
        return
    losses, others = _means([step.losses for step in steps]), _means([step.others for step in steps])
    # The mean of a period needs no further smoothing; writers take a median of what has the hint.
    storage.put_scalars(smoothing_hint=False, total_loss=sum(losses.values()), **losses)
    for name, value in others.items():
        storage.put_scalar(name, value, smoothing_hint=False)
    # The slowest rank is what the others wait for.
    slowest = max(float(np.mean([step.data_time for step in rank])) for rank in ranks if rank)
    storage.put_scalar("data_time", slowest)


def _means(steps: Sequence[Scalars]) -> dict[str, float]:
    names = dict.fromkeys(name for scalars in steps for name in scalars)
    return {name: float(np.mean([float(s[name]) for s in steps if name in s])) for name in names}


def blame(losses: Mapping[str, Tensor], task_of: Callable[[str], str]) -> str:
    """Which losses are infinite or NaN, on which rank, with those beside them; "" if none is. Every rank calls it.

    Args:
        task_of: the task of a loss, by its name.
    """
    values = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
    found = dict(zip(losses, values, strict=True))
    for rank, there in enumerate(comm.all_gather(found)):
        bad = [name for name, value in there.items() if not np.isfinite(value)]
        if bad:
            names = ", ".join(f"{name} (task {task_of(name)!r}) = {there[name]}" for name in bad)
            return f"on rank {rank}: {names}; all losses: {there}"
    return ""
