"""Atrous spatial pyramid pooling on the coarsest level."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ASPP
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms import Norm, fitting
from .base import Decoder, Shapes, by_stride, predictor
from .build import DECODERS_REGISTRY

DILATIONS = (6, 12, 18)  # of the papers at stride 16; twice as large at stride 8


@DECODERS_REGISTRY.register()
class DeepLabV3Decoder(Decoder):
    """Convolutions of several dilations and the mean over the map, side by side on the coarsest level.

    Source: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, arXiv 1706.05587, section 3.3;
    the layers are Detectron2's ``ASPP``, which has no norm after the mean. What differs: the stride is the coarsest
    level's (dilation is the backbone's matter), the width ``conv_dims``, 256 in the paper.

    Args:
        input_shape: the coarsest level is read, others are not.
        out_channels: of the scores.
        conv_dims: of each branch.
        norm: of all convolutions.
        dilations: three, in cells of the level.
        dropout: before the scores.

    Raises:
        ValueError: there are not three dilations.
    """

    def __init__(
        self,
        input_shape: Shapes,
        *,
        out_channels: int,
        conv_dims: int,
        norm: Norm,
        dilations: Sequence[int] = DILATIONS,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_shape)
        self.coarsest = by_stride(input_shape)[-1]
        self.layers = nn.Sequential(
            ASPP(
                input_shape[self.coarsest].channels,
                conv_dims,
                three(dilations),
                norm=fitting(norm),
                activation=F.relu,
                dropout=dropout,
            ),
            predictor(conv_dims, out_channels),
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"dilations": cfg.MODEL.MTL.DECODER.DEEPLAB.DILATIONS}

    @classmethod
    def output_stride(cls, input_shape: Shapes) -> int:
        return max(shape.stride for shape in input_shape.values())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.layers(features[self.coarsest])


def three(dilations: Sequence[int]) -> list[int]:
    """The dilations, as Detectron2's ASPP takes them."""
    if len(dilations) != 3 or min(dilations) < 1:
        raise ValueError(f"MODEL.MTL.DECODER.DEEPLAB.DILATIONS is {list(dilations)}: expected three, each at least 1")
    return list(dilations)
