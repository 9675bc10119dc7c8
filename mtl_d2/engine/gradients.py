"""How a batch becomes gradients, where losses are weighed: one backward pass, or one for each part of the batch."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..balancing import Balancer, GradientBalancer, TaskLosses, task_totals
from .buffers import kept, running_statistics
from .cosines import feature_cosines
from .launch import unwrap
from .precision import Precision
from .stopwatch import Stopwatch
from .task_gradients import TaskGradients
from .task_step import StepGradients, StepLosses, TaskStep, detached, log_tasks, mean_losses, total


class FlatGradients(StepGradients):
    """For a model that gives a flat dict of losses, whose sum is minimised."""

    def __init__(
        self, model: nn.Module, precision: Precision, seed: int, parts: int = 1, cosine_period: int = 0
    ) -> None:
        super().__init__(model, precision, seed, parts, cosine_period)
        for key, value, expected in (
            ("SOLVER.MTL.ACCUMULATE_STEPS", parts, 1),
            ("MODEL.MTL.BALANCER.COSINE_PERIOD", cosine_period, 0),
        ):
            if value != expected:
                raise ValueError(
                    f"{key} is {value}, but a {type(unwrap(model)).__name__} does not give its losses by task: set it "
                    f"to {expected}, or use MultiTaskFPN."
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
        cosines = feature_cosines(step) if self.is_cosine_step(iteration) else {}
        balancer = step.network.balancer
        at_once = self.parts == 1 or balancer.weights_need_losses
        watch = Stopwatch(step.network.device)
        losses, flat, weights = self._at_once(step, watch) if at_once else self._one_by_one(step, watch)
        totals = task_totals(losses, step.labelled)
        for parameter in balancer.idle_parameters():
            parameter.grad = None
        self._observed = (step, totals, watch) if balancer.observes_update else None
        learned = {f"balancer/{name}": value.clone() for name, value in balancer.learned().items()}
        return StepLosses(
            detached(flat), {**log_tasks(totals, weights), **learned, **cosines, "balance_seconds": watch}
        )

    def _at_once(self, step: TaskStep, watch: Stopwatch) -> tuple[TaskLosses, dict[str, Tensor], Mapping[str, Tensor]]:
        parts = []
        for part in range(self.parts):
            with self._synchronised(part):
                parts.append(step.forward(part, self.model))
        losses = mean_losses(parts)
        with watch.running():
            flat, weights = step.network.balancer(losses, step.labelled)
        self.precision.backward(total(flat))
        return losses, flat, weights

    def _one_by_one(
        self, step: TaskStep, watch: Stopwatch
    ) -> tuple[TaskLosses, dict[str, Tensor], Mapping[str, Tensor]]:
        balancer, parts = step.network.balancer, []
        for part in range(self.parts):
            with self._synchronised(part):
                losses = step.forward(part, self.model)
                with kept(balancer.buffers()):  # every part meets the balancer as the step found it
                    with watch.running():
                        flat, _ = balancer(losses, step.labelled)
                    self.precision.backward(total(flat) / self.parts)
            parts.append({task: detached(terms) for task, terms in losses.items()})
        losses = mean_losses(parts)
        with watch.running(), torch.no_grad():
            flat, weights = balancer(losses, step.labelled)  # and remembers the step's mean, once
        return losses, flat, weights

    def _synchronised(self, part: int) -> AbstractContextManager:
        """DDP averages the gradients over ranks in the backward pass of the last part only."""
        last = part == self.parts - 1
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) and not last else nullcontext()

    def after_update(self) -> None:
        if self._observed is None:
            return
        step, before, watch = self._observed
        self._observed = None
        with watch.running():
            with torch.no_grad(), kept(running_statistics(step.network)), EventStorage():
                losses = mean_losses([step.forward(part, step.network) for part in range(self.parts)])
            step.network.balancer.observe_update(before, task_totals(losses, step.labelled))


def build_gradients(
    model: nn.Module, precision: Precision, seed: int, parts: int = 1, cosine_period: int = 0
) -> StepGradients:
    """What suits the model: its balancer weighs gradients or losses, or there is none that the step knows."""
    network = unwrap(model)
    balancer = getattr(network, "balancer", None)
    if hasattr(network, "label_scales") and isinstance(balancer, GradientBalancer):
        return TaskGradients(model, precision, seed, parts, cosine_period)
    if hasattr(network, "label_scales") and isinstance(balancer, Balancer):
        return LossGradients(model, precision, seed, parts, cosine_period)
    return FlatGradients(model, precision, seed, parts, cosine_period)
