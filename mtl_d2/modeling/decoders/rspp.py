"""Pyramid pooling applied to its own output."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor, nn

from ..norms import Norm
from .base import Decoder, Shapes, by_stride, conv, predictor
from .build import DECODERS_REGISTRY
from .pyramid import PyramidPooling


@DECODERS_REGISTRY.register()
class RSPPDecoder(Decoder):
    """Recursive spatial pyramid pooling, our reading of the name: one pyramid pooling (Zhao et al., Pyramid Scene
    Parsing Network, CVPR 2017) is applied ``times`` times, each time to its own output, with the same weights. Every
    pass spreads what the one before has gathered, for no further parameters.

    Norms within it are over all channels of an image (a group norm of one group): a batch norm shared by the passes
    would keep one running mean for maps of different means, and be wrong for all of them in inference.

    Args:
        input_shape: the coarsest level is pooled; others are not read.
        out_channels: of the scores.
        conv_dims: of the pooled map, brought to it by a 1x1 convolution.
        norm: of that convolution.
        bins: see :class:`..pyramid.PyramidPooling`.
        times: r, at least 1.

    Raises:
        ValueError: ``times`` is less than 1.
    """

    def __init__(
        self,
        input_shape: Shapes,
        *,
        out_channels: int,
        conv_dims: int,
        norm: Norm,
        bins: Sequence[int] = (1, 2, 3, 6),
        times: int = 2,
    ) -> None:
        super().__init__(input_shape)
        if times < 1:
            raise ValueError(f"MODEL.MTL.DECODER.RSPP.TIMES is {times}: expected at least 1")
        self.coarsest = by_stride(input_shape)[-1]
        self.times = times
        self.reduce = conv(input_shape[self.coarsest].channels, conv_dims, 1, norm)
        self.pooling = PyramidPooling(conv_dims, conv_dims, bins=bins, norm=partial(nn.GroupNorm, 1))
        self.predictor = predictor(conv_dims, out_channels)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = cfg.MODEL.MTL.DECODER.RSPP
        return {"bins": options.BINS, "times": options.TIMES}

    @classmethod
    def output_stride(cls, input_shape: Shapes) -> int:
        return max(shape.stride for shape in input_shape.values())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        x = self.reduce(features[self.coarsest])
        for _ in range(self.times):
            x = self.pooling(x)
        return self.predictor(x)
