"""Fixed weights: L = sum of alpha_i * loss_i."""

from collections.abc import Mapping

from torch import Tensor

from .base import Balancer


class FixedBalancer(Balancer):
    """``L = sum_i alpha_i L_i`` with constant ``alpha_i``, hard to beat once tuned (Xin et al. 2022).

    Args:
        weights: ``{task: alpha}``, finite and at least 0.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    def weigh(self, totals: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], None]:
        priors = dict(zip(self.tasks, self.prior.unbind(), strict=True))
        return {task: priors[task] for task in totals}, None
