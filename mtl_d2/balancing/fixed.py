"""Fixed weights: L = sum of alpha_i * loss_i."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Balancer


class FixedBalancer(Balancer):
    """``L = sum_i alpha_i L_i`` with constant ``alpha_i``, hard to beat once tuned (Xin et al. 2022).

    Args:
        weights: ``{task: alpha}``, finite and at least 0. A task that is not named weighs 1.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(tuple(weights))
        for task, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(
                    f"MODEL.MTL.BALANCER.WEIGHTS.{task} is {weight}: expected a finite number of at least 0"
                )
        self.weights = dict(weights)

    def task_weights(self, totals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {task: torch.as_tensor(self.weights.get(task, 1.0), device=t.device) for task, t in totals.items()}
