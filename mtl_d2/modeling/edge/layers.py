"""What edge heads are made of: convolutions, the image stem, and logits that are moved from cells to pixels."""

from collections.abc import Callable

import torch
from detectron2.layers import Conv2d, DepthwiseSeparableConv2d, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms import fitting

MakeConv = Callable[[int, int, str], nn.Module]


def conv3x3(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    """3x3 convolution, norm, ReLU."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=3,
        padding=1,
        bias=not norm,
        norm=get_norm(fitting(norm), out_channels),
        activation=F.relu,
    )
    weight_init.c2_msra_fill(conv)
    return conv


def separable_conv3x3(in_channels: int, out_channels: int, norm: str) -> DepthwiseSeparableConv2d:
    """3x3 convolution of each channel, then 1x1 across them, norm, ReLU.

    Nothing stands between the two, which "Xception" (Chollet 2017), section 4.7, found better.
    """
    return DepthwiseSeparableConv2d(in_channels, out_channels, norm2=fitting(norm), activation2=F.relu)


class ImageStem(nn.Sequential):
    """Features of the image itself, at the finest level's stride: its cell x cell blocks are moved to channels first.

    Args:
        cell: stride of the result, in pixels.
        channels: of the result.
        norm: of both convolutions.
        conv: ``(in_channels, out_channels, norm)``, what makes them.
    """

    def __init__(self, cell: int, channels: int, norm: str, conv: MakeConv = conv3x3) -> None:
        super().__init__(conv(3 * cell**2, channels, norm), conv(channels, channels, norm))
        self.cell = cell

    def forward(self, images: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        """(N, 3, H, W) to (N, channels, H / cell, W / cell), in the memory format given."""
        blocks = F.pixel_unshuffle(images, self.cell)
        return super().forward(blocks.contiguous(memory_format=memory_format))


class CellPredictor(Conv2d):
    """r x r logits of each cell by a 1x1 convolution, moved to pixels (sub-pixel convolution, Shi et al. 2016).

    Args:
        in_channels: of the features.
        factor: r, how much finer the logits are.
    """

    def __init__(self, in_channels: int, factor: int) -> None:
        super().__init__(in_channels, factor**2, kernel_size=1)
        self.factor = factor
        init_predictor(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 1, r * h, r * w)."""
        return F.pixel_shuffle(super().forward(x), self.factor)


def init_predictor(conv: nn.Conv2d) -> None:
    """Logits near 0 at first, whatever the features."""
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def memory_format(x: Tensor) -> torch.memory_format:
    """That of a (N, C, H, W) tensor."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
