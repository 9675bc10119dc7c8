"""How a batch becomes gradients, where losses are weighed: one backward pass, or one for each part of the batch."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..balancing import Balancer
from ..balancing.base import TaskLosses
from ..tasks import TaskBatch
from ..tasks.scales import LabelScales, labelled_tasks
from .buffers import kept, running_statistics
from .launch import unwrap
from .precision import Precision, seed_step


@dataclass(frozen=True)
class StepLosses:
    """What a step has computed.

    Attributes:
        losses: what is minimised, ``{loss name: scalar}``, detached.
        others: scalars for the log, such as ``balance/<task>``.
    """

    losses: dict[str, Tensor]
    others: dict[str, Tensor | float] = field(default_factory=dict)


class StepGradients(ABC):
    """Fills in the gradients of a model, averaged over the ranks and the parts of the step.

    Args:
        model: in training mode, wrapped by ``create_ddp`` already.
        seed: part m of rank r starts from the random state (seed, r * parts + m, iteration).
        parts: into so many parts of equal size a rank's batch is cut, which are run one after another.

    Raises:
        ValueError: ``parts`` is less than 1.
    """

    def __init__(self, model: nn.Module, precision: Precision, seed: int, parts: int = 1) -> None:
        if parts < 1:
            raise ValueError(f"SOLVER.MTL.ACCUMULATE_STEPS is {parts}: expected 1 or more.")
        self.model = model
        self.precision = precision
        self.seed = seed
        self.parts = parts

    @abstractmethod
    def __call__(self, batch: list[dict], iteration: int) -> StepLosses:
        """Add the gradients of a batch to those of the parameters (None before)."""

    def after_update(self) -> None:  # noqa: B027 - most have nothing to do
        """Called when the optimizer's step was taken."""

    def seed_part(self, part: int, iteration: int) -> None:
        seed_step(self.seed, comm.get_rank() * self.parts + part, iteration)


class FlatGradients(StepGradients):
    """For a model that gives a flat dict of losses, whose sum is minimised."""

    def __init__(self, model: nn.Module, precision: Precision, seed: int, parts: int = 1) -> None:
        super().__init__(model, precision, seed, parts)
        if parts > 1:
            raise ValueError(
                f"SOLVER.MTL.ACCUMULATE_STEPS is {parts}, but a {type(unwrap(model)).__name__} does not give its "
                "losses by task: set it to 1, or use MultiTaskFPN."
            )

    def __call__(self, batch: list[dict], iteration: int) -> StepLosses:
        self.seed_part(0, iteration)
        with self.precision.autocast():
            losses = self.model(batch)
        self.precision.backward(total(losses))
        return StepLosses({name: loss.detach() for name, loss in losses.items()})


class LossGradients(StepGradients):
    """For a network of tasks whose balancer weighs losses: one backward pass, or one for each part.

    Parts are run one after another, each with its own backward pass. Where the weights depend on the losses of the
    step (``weights_need_losses``), the graphs of all parts are held until the last one's losses are there.
    """

    def __call__(self, batch: list[dict], iteration: int) -> StepLosses:
        step = TaskStep.of(self, batch, iteration)
        balancer = step.network.balancer
        at_once = self.parts == 1 or balancer.weights_need_losses
        losses, flat, weights, seconds = self._at_once(step) if at_once else self._one_by_one(step)
        totals = task_totals(losses, step.labelled)
        self._observed = (step, totals) if balancer.observes_update else None
        return StepLosses(
            {name: loss.detach() for name, loss in flat.items()},
            {**log_tasks(totals, weights), "balance_seconds": seconds},
        )

    def _at_once(self, step: "TaskStep") -> tuple[TaskLosses, dict[str, Tensor], Mapping[str, Tensor], float]:
        parts = []
        for part in range(self.parts):
            with self._synchronised(part):
                parts.append(step.forward(part, self.model))
        losses = mean_losses(parts)
        start = time.perf_counter()
        flat, weights = step.network.balancer(losses, step.labelled)
        seconds = time.perf_counter() - start
        self.precision.backward(total(flat))
        return losses, flat, weights, seconds

    def _one_by_one(self, step: "TaskStep") -> tuple[TaskLosses, dict[str, Tensor], Mapping[str, Tensor], float]:
        balancer, seconds, parts = step.network.balancer, 0.0, []
        for part in range(self.parts):
            with self._synchronised(part):
                losses = step.forward(part, self.model)
                with kept(balancer.buffers()):  # every part meets the balancer as the step found it
                    start = time.perf_counter()
                    flat, _ = balancer(losses, step.labelled)
                    seconds += time.perf_counter() - start
                    self.precision.backward(total(flat) / self.parts)
            parts.append({task: detached(terms) for task, terms in losses.items()})
        losses = mean_losses(parts)
        with torch.no_grad():
            flat, weights = balancer(losses, step.labelled)  # and remembers the step's mean, once
        return losses, flat, weights, seconds

    def _synchronised(self, part: int) -> AbstractContextManager:
        """DDP averages the gradients over ranks in the backward pass of the last part only."""
        last = part == self.parts - 1
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) and not last else nullcontext()

    def after_update(self) -> None:
        if self._observed is None:
            return
        step, before = self._observed
        self._observed = None
        with torch.no_grad(), kept(running_statistics(step.network)), EventStorage():
            losses = mean_losses([step.forward(part, step.network) for part in range(self.parts)])
        step.network.balancer.observe_update(before, task_totals(losses, step.labelled))


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
    """Contiguous parts of equal size.

    Raises:
        ValueError: the batch does not have a multiple of ``parts`` images.
    """
    size, rest = divmod(len(batch), parts)
    if rest or not size:
        raise ValueError(
            f"SOLVER.MTL.ACCUMULATE_STEPS is {parts}, which does not divide the {len(batch)} images that a process has "
            "in a step (SOLVER.IMS_PER_BATCH / processes): change one of the two."
        )
    return [batch[first : first + size] for first in range(0, len(batch), size)]


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


def task_totals(losses: TaskLosses, labelled: Sequence[str]) -> dict[str, Tensor]:
    """The sum of the losses of each labelled task, detached."""
    return {task: total(losses[task]).detach() for task in labelled}


def log_tasks(totals: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
    return {
        **{f"task/{task}": loss for task, loss in totals.items()},
        **{f"balance/{task}": weight.detach() for task, weight in weights.items()},
    }


def build_gradients(model: nn.Module, precision: Precision, seed: int, parts: int) -> StepGradients:
    """What suits the model: by its losses, by its balancer, or the plain sum."""
    network = unwrap(model)
    balancer = getattr(network, "balancer", None)
    if hasattr(network, "label_scales") and isinstance(balancer, Balancer):
        return LossGradients(model, precision, seed, parts)
    return FlatGradients(model, precision, seed, parts)
