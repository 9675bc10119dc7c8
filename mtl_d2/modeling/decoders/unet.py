"""Concatenating skips, up to the finest level."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..norms import Norm
from .base import Decoder, Shapes, convs, doubling, predictor
from .build import DECODERS_REGISTRY
from .resize import fit, size_of

WIDEST = 8  # times conv_dims


@DECODERS_REGISTRY.register()
class UNetDecoder(Decoder):
    """From the coarsest level up: a transposed convolution doubles the size, the next finer level is concatenated, and
    two 3x3 convolutions follow.

    Source: Ronneberger, Fischer and Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015,
    section 2. What differs: padding keeps the size, where the paper crops; norms; any number of levels. The scores
    have the finest level's stride, 1 where the backbone gives it (a VGG's s1).

    Args:
        input_shape: of two or more levels of which each has twice the stride of the one before.
        out_channels: of the scores.
        conv_dims: channels at the finest level; twice as many at each coarser one, eight times at most. The paper has
            64.
        norm: of the 3x3 convolutions.

    Raises:
        ValueError: there are fewer levels, or their strides do not double.
    """

    def __init__(self, input_shape: Shapes, *, out_channels: int, conv_dims: int, norm: Norm) -> None:
        super().__init__(input_shape)
        *self.skips, self.coarsest = doubling("UNetDecoder", input_shape, at_least=2)
        below = input_shape[self.coarsest].channels
        self.up, self.fuse = nn.ModuleDict(), nn.ModuleDict()
        for i, name in reversed(list(enumerate(self.skips))):
            width = conv_dims * min(2**i, WIDEST)
            self.up[name] = nn.ConvTranspose2d(below, width, kernel_size=2, stride=2)
            self.fuse[name] = convs([input_shape[name].channels + width, width, width], norm)
            below = width
        self.predictor = predictor(below, out_channels)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        x = features[self.coarsest]
        for name in reversed(self.skips):
            skip = features[name]
            x = self.fuse[name](torch.cat([skip, fit(self.up[name](x), size_of(skip))], dim=1))
        return self.predictor(x)
