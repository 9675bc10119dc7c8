"""Atrous spatial pyramid pooling with finer levels concatenated."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.projects.deeplab import DeepLabV3PlusHead
from torch import Tensor

from ..norms import Norm, fitting
from .base import Decoder, Shapes, describe, predictor
from .build import DECODERS_REGISTRY
from .deeplabv3 import DILATIONS, three


@DECODERS_REGISTRY.register()
class DeepLabV3PlusDecoder(Decoder):
    """DeepLabv3's layers on the coarsest level, upsampled, concatenated with a thin projection of a finer level, and
    convolved; and again for every finer level there is.

    Source: Chen et al., Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation, ECCV 2018,
    section 3.1; the layers are those of Detectron2's DeepLab project, in its form without scores. What differs: any
    number of finer levels, where the paper has one, at stride 4. Sizes that do not divide are stretched.

    Args:
        input_shape: of two or more levels.
        out_channels: of the scores.
        conv_dims: of all convolutions but the projections.
        norm: of all convolutions.
        dilations: three, in cells of the coarsest level.
        project_dims: of the projection of each finer level.
        separable: depthwise separable convolutions, as in the paper's fastest form.
        dropout: after the layers of DeepLabv3.

    Raises:
        ValueError: there is one level only, or there are not three dilations.
    """

    def __init__(
        self,
        input_shape: Shapes,
        *,
        out_channels: int,
        conv_dims: int,
        norm: Norm,
        dilations: Sequence[int] = DILATIONS,
        project_dims: int = 48,
        separable: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_shape)
        if len(input_shape) < 2:
            raise ValueError(
                "DeepLabV3PlusDecoder reads the coarsest level and at least one finer one; its IN_FEATURES are "
                f"{describe(input_shape)}"
            )
        self.head = DeepLabV3PlusHead(
            dict(input_shape),
            project_channels=[project_dims] * (len(input_shape) - 1),
            aspp_dilations=three(dilations),
            aspp_dropout=dropout,
            decoder_channels=[conv_dims] * len(input_shape),
            common_stride=self.stride,
            norm=fitting(norm),
            train_size=None,
            num_classes=None,
            use_depthwise_separable_conv=separable,
        )
        self.predictor = predictor(conv_dims, out_channels)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        options = cfg.MODEL.MTL.DECODER.DEEPLAB
        return {"dilations": options.DILATIONS, "separable": options.SEPARABLE}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.predictor(self.head.layers(features))
