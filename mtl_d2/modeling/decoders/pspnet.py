"""Pyramid pooling on the coarsest level."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms import Norm
from .base import Decoder, Shapes, by_stride, conv, describe, predictor
from .build import DECODERS_REGISTRY
from .pyramid import PyramidPooling
from .resize import size_of


@DECODERS_REGISTRY.register()
class PSPNetDecoder(Decoder):
    """The coarsest level with its means over grids of several sizes; in training the level before it is scored too.

    Source: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017, section 3. What differs: the stride is the coarsest
    level's, 8 in the paper (dilation is the backbone's matter); auxiliary scores of a finer level are averaged to that
    stride; the width is ``conv_dims``, 512 in the paper.

    Args:
        input_shape: the coarsest level is pooled, the next finer one has the auxiliary loss; others are not read.
        out_channels: of the scores.
        conv_dims: of the fused descriptor; a quarter of them is that of the auxiliary scores' convolution.
        norm: of all convolutions.
        bins: see :class:`..pyramid.PyramidPooling`.
        auxiliary_weight: of the auxiliary loss; 0 for none, and no layers for it.
        dropout: of whole channels before the scores.

    Raises:
        ValueError: an auxiliary loss is asked for, and there is but one level.
    """

    def __init__(
        self,
        input_shape: Shapes,
        *,
        out_channels: int,
        conv_dims: int,
        norm: Norm,
        bins: Sequence[int] = (1, 2, 3, 6),
        auxiliary_weight: float = 0.4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_shape)
        *finer, self.coarsest = by_stride(input_shape)
        pooling = PyramidPooling(input_shape[self.coarsest].channels, conv_dims, bins=bins, norm=norm)
        self.layers = nn.Sequential(pooling, nn.Dropout2d(dropout), predictor(conv_dims, out_channels))
        if auxiliary_weight:
            if not finer:
                raise ValueError(
                    "PSPNetDecoder scores the level before the coarsest for its auxiliary loss; its IN_FEATURES are "
                    f"{describe(input_shape)}: name one more, or set MODEL.MTL.DECODER.PSPNET.AUXILIARY_WEIGHT to 0"
                )
            self.auxiliary_level = finer[-1]
            self.auxiliary_weights = {"auxiliary": auxiliary_weight}
            width = max(conv_dims // 4, 1)
            channels = input_shape[self.auxiliary_level].channels
            self.auxiliary_layers = nn.Sequential(
                conv(channels, width, 3, norm), nn.Dropout2d(dropout), predictor(width, out_channels)
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = cfg.MODEL.MTL.DECODER.PSPNET
        return {"bins": options.BINS, "auxiliary_weight": options.AUXILIARY_WEIGHT}

    @classmethod
    def output_stride(cls, input_shape: Shapes) -> int:
        return max(shape.stride for shape in input_shape.values())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.layers(features[self.coarsest])

    def auxiliary(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self.auxiliary_weights:
            return {}
        scores = self.auxiliary_layers(features[self.auxiliary_level])
        return {"auxiliary": F.adaptive_avg_pool2d(scores, size_of(features[self.coarsest]))}
