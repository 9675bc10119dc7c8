"""Fully convolutional networks."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ..norms import Norm
from .base import Decoder, Shapes, conv, doubling, predictor
from .build import DECODERS_REGISTRY
from .resize import fit, size_of


@DECODERS_REGISTRY.register()
class FCNDecoder(Decoder):
    """Fully connected layers as convolutions score the coarsest level; its scores are upsampled by two, those of the
    next finer level are added, and so on: with levels at strides 8, 16 and 32 FCN-8s, with 16 and 32 FCN-16s, with 32
    alone FCN-32s.

    Source: Long, Shelhamer and Darrell, Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, sections
    3.3 and 4. What differs: padding keeps the size, where the paper pads the image by 100 pixels; all streams are
    trained at once; a norm may follow the convolutional layers; a level is what the backbone gives at that stride (of
    a VGG the last convolution there, in the paper the pooling before); scores start small, not at zero.

    Args:
        input_shape: of levels of which each has twice the stride of the one before.
        out_channels: of the scores.
        norm: after ``fc6`` and ``fc7``; "" for the paper's.
        conv_dims: not used: the width is ``fc_dim``.
        fc_dim: channels of ``fc6`` and ``fc7``.
        fc_kernel: odd, of ``fc6``.
        dropout: after each of them.

    Raises:
        ValueError: the strides do not double, or ``fc_kernel`` is even.
    """

    def __init__(
        self,
        input_shape: Shapes,
        *,
        out_channels: int,
        norm: Norm,
        conv_dims: int = 0,
        fc_dim: int = 4096,
        fc_kernel: int = 7,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(input_shape)
        if fc_kernel % 2 == 0:
            raise ValueError(f"MODEL.MTL.DECODER.FCN.FC_KERNEL is {fc_kernel}: expected an odd number")
        *self.skips, self.coarsest = doubling("FCNDecoder", input_shape)
        self.fc = nn.Sequential(
            conv(input_shape[self.coarsest].channels, fc_dim, fc_kernel, norm),
            nn.Dropout(dropout),
            conv(fc_dim, fc_dim, 1, norm),
            nn.Dropout(dropout),
            predictor(fc_dim, out_channels),
        )
        self.scores = nn.ModuleDict({name: predictor(input_shape[name].channels, out_channels) for name in self.skips})
        self.upsampling = nn.ModuleDict({name: bilinear_upsampling(out_channels) for name in self.skips})

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = cfg.MODEL.MTL.DECODER.FCN
        return {"fc_dim": options.FC_DIM, "fc_kernel": options.FC_KERNEL}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        scores = self.fc(features[self.coarsest])
        for name in reversed(self.skips):
            skip = self.scores[name](features[name])
            scores = skip + fit(self.upsampling[name](scores), size_of(skip))
        return scores


def bilinear_upsampling(channels: int) -> nn.ConvTranspose2d:
    """A learnt upsampling by two of each channel for itself, which starts as bilinear interpolation (at the border,
    with zeros around the map)."""
    module = nn.ConvTranspose2d(channels, channels, kernel_size=4, stride=2, padding=1, groups=channels, bias=False)
    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        module.weight.copy_(torch.outer(taps, taps).expand_as(module.weight))
    return module
