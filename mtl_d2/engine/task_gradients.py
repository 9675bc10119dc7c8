"""How a batch becomes gradients, where the gradients of the tasks are weighed."""

import torch
from detectron2.utils import comm
from torch import Tensor

from ..balancing import GradientBalancer, TaskLosses, average_over_ranks, task_totals
from .all_reduce import average_gradients
from .cosines import cosines
from .feature_cut import FeatureCut
from .shared_gradients import AtFeatures, OnParameters, Shared, SharedGradients, WithStoredWeights
from .task_step import StepGradients, StepLosses, TaskStep, detached, log_tasks, mean_losses, total


class TaskGradients(StepGradients):
    """For a network whose balancer weighs gradients: every head by itself down to the features, then the trunk.

    1. The trunk's features are cut off. The loss of each task is propagated back to them on its own: the gradients of
       its head are final, and those of the features are the task's row.
    2. The rows' Gramian, over all parts and ranks, gives the weights. With the exact cut the rows are propagated on, to
       the trunk's parameters.
    3. The weighted sum of the rows is propagated back through the trunk: with the features' cut, and between
       refreshes, that is one backward pass as of a plain sum. In a refresh at the features the trunk's graphs of all
       parts are held until the weights are there.
    4. All gradients are averaged over the ranks in one go. DDP, which would do so in each backward pass, is not asked.

    A parameter behind the cut that two tasks reach has the sum of their gradients, as it has in a plain sum. What one
    branch gives another (a tower that both read) is computed once, and its graph is held until the last task is done.
    """

    def __call__(self, batch: list[dict], iteration: int) -> StepLosses:
        step = TaskStep.of(self, batch, iteration)
        shared = self._shared(step)
        method = self._method(shared, iteration)
        cosine = AtFeatures(shared) if self.is_cosine_step(iteration) else None
        losses = []
        for part in range(self.parts):
            cut, part_losses = self._heads(step, part)
            losses.append(part_losses)
            if cosine is not None:
                cosine.gramian += cut.gramian(shared.tasks)
            method.add(cut)
        mean = mean_losses(losses)
        totals = task_totals(mean, shared.tasks)
        weights = method.finish(average_over_ranks(torch.stack([*totals.values()])) if totals else torch.zeros(0))
        alpha = shared.balancer.prior  # in the log, losses are without it and weights with it, as of other methods
        done = set(shared.parameters) if isinstance(method, OnParameters) else set()
        average_gradients(p for p in step.network.parameters() if p not in done)
        return StepLosses(
            {name: loss for terms in mean.values() for name, loss in terms.items()},
            {
                **log_tasks(
                    {task: loss / alpha[task] for task, loss in totals.items()},
                    {task: alpha[task] * weight for task, weight in zip(shared.tasks, weights.unbind(), strict=True)},
                ),
                **{f"balancer/{name}": value.clone() for name, value in shared.balancer.learned().items()},
                **({} if cosine is None else cosines(cosine.global_gramian(), shared.tasks)),
                "balance_seconds": method.watch,
            },
        )

    def _shared(self, step: TaskStep) -> Shared:
        device = step.network.device
        return Shared(
            balancer=step.network.balancer,
            tasks=step.network.balancer.taking_part(step.labelled),
            parameters=[p for p in step.network.backbone.parameters() if p.requires_grad],
            scale=self.precision.scale(torch.ones((), device=device)),
            seed=(self.seed, comm.get_world_size() * self.parts, step.iteration),  # a number that no part has
        )

    @staticmethod
    def _method(shared: Shared, iteration: int) -> SharedGradients:
        if not (shared.tasks and shared.parameters) or iteration % shared.balancer.period:
            return WithStoredWeights(shared)
        return AtFeatures(shared) if shared.balancer.cut == "features" else OnParameters(shared)

    def _heads(self, step: TaskStep, part: int) -> tuple[FeatureCut, TaskLosses]:
        """A part's features with the rows of all tasks, and its losses; gradients of the heads are added up."""
        network, batch = step.network, step.parts[part]
        balancer: GradientBalancer = network.balancer
        self.seed_part(part, step.iteration)
        with self.precision.autocast():
            cut = FeatureCut(network.extract_features(batch), network.backbone)
        shared = network.step_features(lambda: network.neck.aggregate(cut.features()), batch)
        losses: dict[str, dict[str, Tensor]] = {}
        for task in network.branches:
            with self.precision.autocast():
                terms = network.task_losses(task, shared, batch, step.scales)
                terms = {name: balancer.prior[task] * loss for name, loss in terms.items()}
            mean = total(terms) / self.parts
            if mean.requires_grad:
                self.precision.backward(mean, retain_graph=shared.is_shared)
            cut.take_row(task)
            losses[task] = detached(terms)
        return cut, losses
