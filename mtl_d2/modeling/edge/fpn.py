"""An edge head on several FPN levels that predicts finer than it computes."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor

from ...losses import EDGE_LOSSES
from ..norms import fitting
from .base import IGNORE, EdgeHead, edge_head_arguments
from .build import EDGE_HEADS_REGISTRY
from .criterion import EdgeLoss
from .layers import CellPredictor, ImageStem, conv3x3, memory_format


@EDGE_HEADS_REGISTRY.register()
class FPNEdgeHead(EdgeHead):
    """Edges from several levels, at any stride down to a pixel, without a feature map finer than the finest level.

    The levels are brought to the finest one's stride s by the decoder of semantic FPN (Kirillov et al. 2019). For
    detail, a thin stem sees the image itself. r x r logits a cell, r = s / ``stride``, are then moved to pixels.

    Peak memory, beside the features and their gradients: the largest map, forward and backward, has (conv_dims + 4 *
    stem_dim) * H * W / s^2 elements an image, or 3 * H * W of the image's blocks where that is more. At stride 1 a
    1024x1024 image so needs 32 MiB for it and 4 MiB of float32 logits, where a 128-channel map at full size needs 512.

    Args:
        input_shape: of the features to use.
        conv_dims: channels of the decoder.
        norm: normalisation of all convolutions.
        stride: of the prediction, in input pixels; a divisor of the finest level's stride.
        stem_dim: a quarter of the channels of the image stem; 0 for none.
        loss: ``(logits, targets) -> scalar``, see :mod:`mtl_d2.losses.edge`.
        loss_weight: within the task.

    Raises:
        ValueError: ``stride`` does not divide the finest level's.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        conv_dims: int = 64,
        norm: str = "GN",
        stride: int = 1,
        stem_dim: int = 16,
        loss: EdgeLoss = EDGE_LOSSES["hed"],
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(input_shape, stride=stride, loss=loss, loss_weight=loss_weight)
        self.decoder = SemSegFPNHead(
            input_shape,
            num_classes=conv_dims,
            conv_dims=conv_dims,
            common_stride=self.cell,
            norm=fitting(norm),
            ignore_value=IGNORE,
        )
        self.stem = ImageStem(self.cell, stem_dim * 4, norm) if stem_dim else None
        self.fuse = conv3x3(conv_dims + stem_dim * 4, conv_dims, norm)
        self.predictor = CellPredictor(conv_dims, self.cell // stride)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return {**edge_head_arguments(cfg, input_shape), "conv_dims": cfg.MODEL.MTL.EDGE_HEAD.CONVS_DIM}

    def layers(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (N, 1, H / stride, W / stride)."""
        x = self.decoder.layers(features)
        if self.stem is not None:
            x = torch.cat([x, self.stem(images, memory_format(x))], dim=1)
        return self.predictor(self.fuse(x))
