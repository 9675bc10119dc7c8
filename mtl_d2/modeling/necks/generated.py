"""Convolutions a part of whose weights is given for each image."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class WeightForm(ABC):
    """What a generator makes of a 3x3 convolution's weights.

    Args:
        channels: C, of its input and output.
        rank: r, of an update.

    Attributes:
        size: values that are made for a convolution.
    """

    size: int

    def __init__(self, channels: int, rank: int) -> None:
        self.channels = channels
        self.rank = rank

    @abstractmethod
    def initial_values(self) -> Tensor:
        """(``size``), what a generator is to begin with, for every task and image."""

    @abstractmethod
    def convolve(self, x: Tensor, conv: nn.Module, values: Tensor) -> Tensor:
        """The convolution of x (N, C, h, w) with the weights that ``values`` (N, ``size``) make of a Conv2d's."""


class ChannelWise(WeightForm):
    """A scale and a shift of each output channel, W' = diag(1 + s) W and b' = (1 + s) b + t; values s, t."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__(channels, rank)
        self.size = 2 * channels

    def initial_values(self) -> Tensor:
        return torch.zeros(self.size)

    def convolve(self, x: Tensor, conv: nn.Module, values: Tensor) -> Tensor:
        # Scaling the output is scaling the rows of the weights, without a kernel for each image.
        y = conv(x)
        scale, shift = values.to(y.dtype)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(y + shift, y, scale)


class LowRank(WeightForm):
    """An update of the middle tap by a matrix of rank r, W' = W + U V^T; values V (C, r), then U (C, r)."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__(channels, rank)
        self.size = 2 * channels * rank

    def initial_values(self) -> Tensor:
        """U is zero, and V is not: else neither would get a gradient."""
        v = torch.randn(self.size // 2) / self.channels**0.5
        return torch.cat([v, torch.zeros(self.size // 2)])

    def convolve(self, x: Tensor, conv: nn.Module, values: Tensor) -> Tensor:
        y = conv(x)
        v, u = values.to(y.dtype).view(-1, 2, self.channels, self.rank).unbind(dim=1)
        update = torch.bmm(u, torch.bmm(v.transpose(1, 2), x.to(y.dtype).flatten(2)))
        return y + update.view(y.shape)


FORMS: dict[str, type[WeightForm]] = {"channel": ChannelWise, "low_rank": LowRank}
