"""The decoder of semantic FPN."""

from collections.abc import Mapping
from functools import reduce

import torch
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor, nn

from ..norms import Norm, fitting
from .base import Decoder, Shapes
from .build import DECODERS_REGISTRY
from .resize import fit, size_of


@DECODERS_REGISTRY.register()
class FPNDecoder(Decoder):
    """Every level is convolved and upsampled to the finest one's stride; their sum is scored by a 1x1 convolution.

    Source: Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019, section 3; the layers are Detectron2's
    ``SemSegFPNHead``. What differs: sizes that do not divide are fitted, and the first scores are all but even.

    Args:
        input_shape: of levels whose strides are powers of two.
        out_channels: of the scores.
        conv_dims: of all convolutions.
        norm: of all convolutions.
    """

    def __init__(self, input_shape: Shapes, *, out_channels: int, conv_dims: int, norm: Norm) -> None:
        super().__init__(input_shape)
        self.head = SemSegFPNHead(
            dict(input_shape),
            num_classes=out_channels,
            conv_dims=conv_dims,
            common_stride=self.stride,
            norm=fitting(norm),
        )
        nn.init.normal_(self.head.predictor.weight, std=0.01)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        maps = [
            branch(features[name]) for name, branch in zip(self.head.in_features, self.head.scale_heads, strict=True)
        ]
        finest = size_of(maps[0])
        return self.head.predictor(reduce(torch.add, [fit(x, finest) for x in maps]))
