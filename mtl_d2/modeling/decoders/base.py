"""What a decoder is, and what several are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms import Norm, fitting

Shapes = Mapping[str, ShapeSpec]


class Decoder(nn.Module):
    """From maps at several strides to scores at one.

    A subclass is ``Decoder(input_shape, *, out_channels, conv_dims, norm, ...)``, with defaults for what else it
    takes. ``forward(features)`` gives (N, ``out_channels``, H / ``stride``, W / ``stride``), of any float type, from
    ``{level: (N, C, H / s, W / s)}``. The sizes of the levels need not divide: see :func:`..resize.fit`.

    Args:
        input_shape: of the features to read, with channels and strides.

    Attributes:
        stride: of the scores, in input pixels.
        auxiliary_weights: ``{name: weight}`` of the losses that :meth:`auxiliary` is for, relative to the main one.
    """

    auxiliary_weights: Mapping[str, float] = {}

    def __init__(self, input_shape: Shapes) -> None:
        super().__init__()
        self.stride = self.output_stride(input_shape)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The options that the class has of its own, from its node below MODEL.MTL.DECODER."""
        return {}

    @classmethod
    def output_stride(cls, input_shape: Shapes) -> int:
        """The stride of the scores: by default that of the finest level."""
        return min(shape.stride for shape in input_shape.values())

    def auxiliary(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scores of the form of the main ones, for losses in training alone, by the names of ``auxiliary_weights``."""
        return {}


def by_stride(input_shape: Shapes) -> list[str]:
    """Names of the levels from fine to coarse; of equal strides (dilated stages) in the order given."""
    return sorted(input_shape, key=lambda name: input_shape[name].stride)


def doubling(decoder: str, input_shape: Shapes, *, at_least: int = 1) -> list[str]:
    """Names of the levels from fine to coarse.

    Raises:
        ValueError: they are fewer than ``at_least``, or a stride is not twice the one before.
    """
    names = by_stride(input_shape)
    strides = [input_shape[name].stride for name in names]
    if len(names) < at_least or any(b != 2 * a for a, b in zip(strides, strides[1:], strict=False)):
        least = f"at least {at_least} levels" if at_least > 1 else "levels"
        raise ValueError(
            f"{decoder} reads {least} of which each has twice the stride of the one before; its IN_FEATURES are "
            f"{describe(input_shape)}"
        )
    return names


def describe(input_shape: Shapes) -> str:
    """The levels with their strides, for messages."""
    return ", ".join(f"{name} (stride {shape.stride})" for name, shape in input_shape.items())


def conv(in_channels: int, out_channels: int, kernel_size: int, norm: Norm) -> Conv2d:
    """Convolution at one size, norm, ReLU; a bias where there is no norm."""
    module = Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(fitting(norm), out_channels),
        activation=F.relu,
    )
    weight_init.c2_msra_fill(module)
    return module


def convs(channels: Sequence[int], norm: Norm) -> nn.Sequential:
    """3x3 convolutions from each of the numbers of channels to the next."""
    return nn.Sequential(*(conv(a, b, 3, norm) for a, b in zip(channels, channels[1:], strict=False)))


def predictor(in_channels: int, out_channels: int) -> Conv2d:
    """1x1 convolution whose first scores are all but even."""
    module = Conv2d(in_channels, out_channels, kernel_size=1)
    nn.init.normal_(module.weight, std=0.01)
    nn.init.zeros_(module.bias)
    return module
