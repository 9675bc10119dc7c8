"""A step of a network of tasks, in parts, and what all ways from there to gradients have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, SupportsFloat

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from ..balancing import TaskLosses
from ..tasks import TaskBatch
from ..tasks.scales import LabelScales, labelled_tasks
from .launch import unwrap
from .precision import Precision, seed_step


@dataclass(frozen=True)
class StepLosses:
    """What a step has computed.

    Attributes:
        losses: what is minimised, ``{loss name: scalar}``, detached.
        others: scalars for the log, such as ``balance/<task>``; read when :meth:`StepGradients.after_update` is done.
    """

    losses: dict[str, Tensor]
    others: dict[str, Tensor | SupportsFloat] = field(default_factory=dict)


class StepGradients(ABC):
    """Fills in the gradients of a model, averaged over the ranks and the parts of the step.

    Args:
        model: in training mode, wrapped by ``create_ddp`` already.
        seed: part m of rank r starts from the random state (seed, r * parts + m, iteration).
        parts: into so many parts of equal size a rank's batch is cut, which are run one after another.
        cosine_period: in every so many steps the cosines between the tasks' gradients are computed; 0 for never.

    Raises:
        ValueError: ``parts`` is less than 1, or ``cosine_period`` negative.
    """

    def __init__(
        self, model: nn.Module, precision: Precision, seed: int, parts: int = 1, cosine_period: int = 0
    ) -> None:
        check_step(parts, cosine_period)
        self.model = model
        self.precision = precision
        self.seed = seed
        self.parts = parts
        self.cosine_period = cosine_period

    @abstractmethod
    def __call__(self, batch: list[dict], iteration: int) -> StepLosses:
        """Add the gradients of a batch to those of the parameters (None before)."""

    def after_update(self) -> None:  # noqa: B027 - most have nothing to do
        """Called when the optimizer's step was taken."""

    def is_cosine_step(self, iteration: int) -> bool:
        return self.cosine_period > 0 and iteration % self.cosine_period == 0

    def seed_part(self, part: int, iteration: int) -> None:
        seed_step(self.seed, comm.get_rank() * self.parts + part, iteration)


def check_step(parts: int, cosine_period: int) -> None:
    """Raise ValueError for numbers that :class:`StepGradients` does not take."""
    if parts < 1:
        raise ValueError(f"SOLVER.MTL.ACCUMULATE_STEPS is {parts}: expected 1 or more.")
    if cosine_period < 0:
        raise ValueError(f"MODEL.MTL.BALANCER.COSINE_PERIOD is {cosine_period}: expected 0 or more.")


@dataclass(frozen=True)
class TaskStep:
    """A step of a network of tasks: its parts, and which tasks they are labelled for.

    Attributes:
        network: without DDP's wrapper.
        labelled: tasks with a label in any part of any rank.
    """

    gradients: StepGradients
    network: Any
    parts: list[TaskBatch]
    scales: LabelScales
    labelled: list[str]
    iteration: int

    @classmethod
    def of(cls, gradients: StepGradients, batch: list[dict], iteration: int) -> "TaskStep":
        network: Any = unwrap(gradients.model)
        parts = [network.preprocess(part) for part in split(batch, gradients.parts)]
        scales = network.label_scales(parts)
        return cls(gradients, network, parts, scales, labelled_tasks(scales), iteration)

    def forward(self, part: int, model: nn.Module) -> TaskLosses:
        """The losses of a part, before balancing, from the part's own random state."""
        self.gradients.seed_part(part, self.iteration)
        with self.gradients.precision.autocast():
            return model(self.parts[part], self.scales)


def split(batch: list[dict], parts: int) -> list[list[dict]]:
    """Contiguous parts of equal size; see :func:`part_size` for errors."""
    size = part_size(len(batch), parts)
    return [batch[first : first + size] for first in range(0, len(batch), size)]


def part_size(images: int, parts: int) -> int:
    """How many images each part has.

    Raises:
        ValueError: the batch does not have a multiple of ``parts`` images.
    """
    size, rest = divmod(images, parts)
    if rest or not size:
        raise ValueError(
            f"SOLVER.MTL.ACCUMULATE_STEPS is {parts}, which does not divide the {images} images that a process has "
            "in a step (SOLVER.IMS_PER_BATCH / processes): change one of the two."
        )
    return size


def total(losses: Mapping[str, Tensor]) -> Tensor:
    return reduce(torch.add, losses.values())


def detached(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: loss.detach() for name, loss in losses.items()}


def mean_losses(parts: Sequence[TaskLosses]) -> TaskLosses:
    """The mean over the parts of every loss."""
    if len(parts) == 1:
        return parts[0]
    return {
        task: {name: torch.stack([part[task][name] for part in parts]).mean() for name in terms}
        for task, terms in parts[0].items()
    }


def log_tasks(totals: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        **{f"task/{task}": loss for task, loss in totals.items()},
        **{f"balance/{task}": weight.detach() for task, weight in weights.items()},
    }
