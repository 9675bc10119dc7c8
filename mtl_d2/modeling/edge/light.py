"""An edge head for those who want edges beside other answers at next to no cost."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from ...losses import EDGE_LOSSES
from ..norms import fitting
from .base import EdgeHead, edge_head_arguments
from .build import EDGE_HEADS_REGISTRY
from .criterion import EdgeLoss
from .layers import CellPredictor, ImageStem, memory_format, separable_conv3x3


@EDGE_HEADS_REGISTRY.register()
class LightEdgeHead(EdgeHead):
    """As :class:`FPNEdgeHead`, with a 1x1 convolution a level and depthwise-separable ones at the finest.

    Each level is narrowed, then added to the next finer one from the coarsest on (the top-down path of "Feature
    Pyramid Networks", Lin et al. 2017); the image stem is joined at the finest level, of stride s.

    On four levels of 256 channels, with the defaults that both have, it has 90 thousand parameters and 3.1 G
    multiply-adds for a 1024x1024 image, where :class:`FPNEdgeHead` has 845 thousand and 23.8 G.

    Peak memory, beside the features and their gradients: the largest map, forward and backward, has (conv_dims + 4 *
    stem_dim) * H * W / s^2 elements an image, or 3 * H * W of the image's blocks where that is more.

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
        self.levels = sorted(input_shape, key=lambda level: -input_shape[level].stride)
        self.lateral = nn.ModuleDict(
            {level: _conv1x1(input_shape[level].channels, conv_dims, norm) for level in self.levels}
        )
        self.stem = ImageStem(self.cell, stem_dim * 4, norm, separable_conv3x3) if stem_dim else None
        self.fuse = nn.Sequential(
            separable_conv3x3(conv_dims + stem_dim * 4, conv_dims, norm),
            separable_conv3x3(conv_dims, conv_dims, norm),
        )
        self.predictor = CellPredictor(conv_dims, self.cell // stride)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return {**edge_head_arguments(cfg, input_shape), "conv_dims": cfg.MODEL.MTL.EDGE_HEAD.CONVS_DIM}

    def layers(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (N, 1, H / stride, W / stride)."""
        x = self._top_down(features)
        if self.stem is not None:
            x = torch.cat([x, self.stem(images, memory_format(x))], dim=1)
        return self.predictor(self.fuse(x))

    def _top_down(self, features: Mapping[str, Tensor]) -> Tensor:
        """(N, conv_dims, H / s, W / s)."""
        coarsest, *finer = self.levels
        x = self.lateral[coarsest](features[coarsest])
        for level in finer:
            lateral = self.lateral[level](features[level])
            x = lateral + F.interpolate(x, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        return x


def _conv1x1(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    conv = Conv2d(in_channels, out_channels, kernel_size=1, bias=not norm, norm=get_norm(fitting(norm), out_channels))
    weight_init.c2_msra_fill(conv)
    return conv
