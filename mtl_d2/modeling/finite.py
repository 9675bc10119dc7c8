"""Predictions that became infinite or NaN: what is computed from them must not fail, but tell."""

import torch
from torch import Tensor


def split_finite(values: Tensor) -> tuple[Tensor, Tensor]:
    """The values with 0 where they are infinite or NaN, and marks of their shape: 0, and NaN there.

    Losses of overlap assert that a box has its corners in order, which those of NaN have not. A loss of the first, with
    the marks of the values it is about added, is NaN instead, and the step is skipped with the loss's name. Finite
    values have the same loss and gradient as without.
    """
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), 0.0 * values.detach()
