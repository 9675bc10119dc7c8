"""The geometric mean of the tasks' losses."""

from collections.abc import Sequence

from torch import Tensor

from .scalarization import Scalarization


class GeometricMeanBalancer(Scalarization):
    """``S = (prod_i L_i)^(1 / N)`` over the N tasks that take part, so that ``w_i = S / (N L_i)``.

    Chennupati et al. 2019, MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task
    Learning, equation 3. Prior weights change all weights by one factor. A loss of 0 takes no part.
    """

    weights_need_losses = True

    def scalarize(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        return losses.log().mean().exp()
