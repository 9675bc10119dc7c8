"""Max pooling that remembers where each maximum stood, and the unpooling that puts it back there."""

import torch
from torch import Tensor
from torch.nn import functional as F


def max_pool_with_positions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Max pooling of 2 x 2 windows, and the place of each maximum within its window.

    Two bits hold a place (Badrinarayanan et al., SegNet, TPAMI 2017, section 3.1); here they have a byte, an eighth of
    the memory of torch's indices, which hold for maps of one width alone.

    Args:
        x: (N, C, H, W).

    Returns:
        values (N, C, floor(H / 2), floor(W / 2)), and places of the same shape, uint8: 0 upper left, 1 upper right,
        2 lower left, 3 lower right; the first of equals.
    """
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    width = x.shape[-1]
    rows, columns = indices.div(width, rounding_mode="floor"), indices % width
    return values, (rows % 2 * 2 + columns % 2).to(torch.uint8)


def max_unpool(x: Tensor, positions: Tensor) -> Tensor:
    """Each value at its place in a window of 2 x 2, zero at the other three.

    Other than torch's ``max_unpool2d`` it is deterministic on a GPU.

    Args:
        x: (N, C, H, W).
        positions: (N, C, H, W), of :func:`max_pool_with_positions`.

    Returns:
        (N, C, 2 H, 2 W), in the memory format of ``x``.
    """
    spread = F.interpolate(x, scale_factor=2, mode="nearest")
    places = F.interpolate(positions, scale_factor=2, mode="nearest")
    window = torch.arange(4, dtype=positions.dtype, device=x.device).view(2, 2)
    return torch.where(places == window.repeat(x.shape[-2:]), spread, 0)
