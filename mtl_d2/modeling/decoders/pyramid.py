"""Pyramid pooling: what PSPNet applies once, and R-SPP again and again."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms import Norm
from .base import conv


class PyramidPooling(nn.Module):
    """Means over grids of several sizes, each projected by a 1x1 convolution, upsampled and concatenated with the
    input; a 3x3 convolution fuses them.

    Source: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017, section 3.2. What differs: the mean over the whole
    map has a bias in the place of a norm, as one value of each channel and image has no statistics of its own.

    Args:
        in_channels: C.
        out_channels: of the result.
        bins: cells along each side of a grid; each grid is projected to C / len(bins) channels, at least 1.
        norm: of the convolutions, a name or a function of the number of channels.

    Raises:
        ValueError: a grid has less than one cell, or there is none.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bins: Sequence[int] = (1, 2, 3, 6), norm: Norm) -> None:
        super().__init__()
        if not bins or min(bins) < 1:
            raise ValueError(f"BINS of a pyramid pooling are {list(bins)}: expected whole numbers of at least 1")
        width = max(in_channels // len(bins), 1)
        self.grids = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), conv(in_channels, width, 1, norm if side > 1 else ""))
            for side in bins
        )
        self.fuse = conv(in_channels + width * len(bins), out_channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H, W)."""
        return self.fuse(self.pyramid(x))

    def pyramid(self, x: Tensor) -> Tensor:
        """The input and the upsampled grids, (N, C + width * len(bins), H, W)."""
        grids = [F.interpolate(g(x), x.shape[-2:], mode="bilinear", align_corners=False) for g in self.grids]
        return torch.cat([x, *grids], dim=1)
