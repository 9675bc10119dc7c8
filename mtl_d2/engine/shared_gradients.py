"""The weighted gradient of the trunk, from the rows of the tasks at the feature cut; three ways to its weights.

Each has ``add``, for every part of the step, and ``finish``, which fills in the gradients of the trunk's parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from ..balancing import GradientBalancer, average_over_ranks
from .feature_cut import FeatureCut
from .precision import seed_step
from .stopwatch import Stopwatch


@dataclass(frozen=True)
class Shared:
    """What is shared in a step.

    Attributes:
        tasks: those that take part.
        parameters: of the trunk, those that are trained.
        scale: () that the rows were multiplied by, see :meth:`.precision.Precision.scale`.
        seed: of the random state that the weights are computed from, the same on all ranks: ``seed_step``'s arguments.
    """

    balancer: GradientBalancer
    tasks: Sequence[str]
    parameters: Sequence[nn.Parameter]
    scale: Tensor
    seed: tuple[int, int, int]

    def refresh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The weights (K,), float64 on the CPU, from the Gramian (K, K) and losses (K,) of the global batch."""
        both = torch.cat([gramian.flatten(), losses]).cpu().double()  # one copy to the host
        k = len(self.tasks)
        seed_step(*self.seed)
        return self.balancer.refresh(both[: k * k].view(k, k), both[k * k :], self.tasks)


class SharedGradients(ABC):
    """See the module.

    Attributes:
        watch: of what a plain sum would not need.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.watch = Stopwatch(shared.scale.device)

    @abstractmethod
    def add(self, cut: FeatureCut) -> None:
        """Take in the rows of a part."""

    @abstractmethod
    def finish(self, losses: Tensor) -> Tensor:
        """Fill in the trunk's gradients.

        Args:
            losses: (K,), the mean over the global batch.

        Returns:
            the weights (K,).
        """

    def weigh(self, weights: Tensor) -> Mapping[str, float]:
        return dict(zip(self.shared.tasks, weights.tolist(), strict=True))


class WithStoredWeights(SharedGradients):
    """Between two refreshes: the weights are there, and a part's graph is gone when its turn is over."""

    def add(self, cut: FeatureCut) -> None:
        cut.backward(self.weigh(self.shared.balancer.last(self.shared.tasks)))

    def finish(self, losses: Tensor) -> Tensor:
        return self.shared.balancer.last(self.shared.tasks)


class AtFeatures(SharedGradients):
    """Weights from the Gramian of the rows.

    The features of different images are different variables, so that the Gramian of the global batch is the sum of
    those of its parts. A rank's rows are those of the mean over its parts; of the mean over R ranks they are 1 / R of
    that, and their products 1 / R^2.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.gramian = torch.zeros(len(shared.tasks), len(shared.tasks), device=shared.scale.device)
        self.cuts: list[FeatureCut] = []

    def add(self, cut: FeatureCut) -> None:
        with self.watch.running():
            self.gramian += cut.gramian(self.shared.tasks)
        self.cuts.append(cut)

    def global_gramian(self) -> Tensor:
        return average_over_ranks(self.gramian / self.shared.scale**2) / comm.get_world_size()

    def finish(self, losses: Tensor) -> Tensor:
        with self.watch.running():
            weights = self.shared.refresh(self.global_gramian(), losses)
        for cut in self.cuts:
            cut.backward(self.weigh(weights))
        return weights


class OnParameters(SharedGradients):
    """Weights from the Jacobian of the trunk's parameters, (K, P) in float32: one backward pass of the trunk a task.

    All of them are timed, the one that a plain sum has too.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        count = sum(p.numel() for p in shared.parameters)
        self.jacobian = torch.zeros(len(shared.tasks), count, device=shared.scale.device)

    def add(self, cut: FeatureCut) -> None:
        with self.watch.running():
            for row, task in zip(self.jacobian, self.shared.tasks, strict=True):
                gradients = cut.trunk_gradients(task, self.shared.parameters)
                for target, gradient in zip(self._split(row), gradients, strict=True):
                    if gradient is not None:
                        target.add_(gradient)

    def finish(self, losses: Tensor) -> Tensor:
        with self.watch.running():
            self.jacobian = average_over_ranks(self.jacobian)
            weights = self.shared.refresh(self.jacobian @ self.jacobian.T / self.shared.scale**2, losses)
            gradient = weights.to(self.jacobian) @ self.jacobian
            for p, value in zip(self.shared.parameters, self._split(gradient), strict=True):
                p.grad = torch.empty_like(p).copy_(value)
        return weights

    def _split(self, row: Tensor) -> list[Tensor]:
        parameters = self.shared.parameters
        pieces = row.split([p.numel() for p in parameters])
        return [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
