"""An edge head with an output of each level, all of them supervised."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ...losses import EDGE_LOSSES
from ...structures import downsample_edges
from .base import EdgeHead, edge_head_arguments
from .build import EDGE_HEADS_REGISTRY
from .criterion import EdgeLoss
from .layers import CellPredictor, ImageStem, init_predictor, memory_format


@EDGE_HEADS_REGISTRY.register()
class HEDEdgeHead(EdgeHead):
    """Side outputs with deep supervision, and their fusion: "Holistically-Nested Edge Detection" (Xie and Tu 2015).

    A 1x1 convolution scores each level (section 3.1), the score is brought to the prediction's stride, and a 1x1
    convolution over the M scores is the answer (equation 4). Equation 5's terms are ``loss_edge``, that of the fused
    map, and ``loss_edge_side``, the sum of the sides' times ``deep_weight``, the paper's alpha, one for all.

    What differs from the paper: the sides see FPN levels and not VGG's stages, so that the finest has stride 4; in the
    place of VGG's stages of stride 1 and 2 the image stem gives a side of its own, at the prediction's stride. Sides
    are brought there by interpolation and not by a deconvolution with crop. The scores' initial weights are small and
    not zero. The answer is the fused map alone, not its mean with the sides (section 4.3). Every image's loss is a mean
    over its pixels, not a sum.

    Peak memory, beside the features and their gradients: the largest map, forward and backward, are the M sides, M * H
    * W / stride^2 elements an image, 20 MiB in float32 for 1024x1024, stride 1, four levels and the stem; or, where it
    has more, the stem: 3 * H * W of the image's blocks, 4 * stem_dim * H * W / s^2, s the finest level's stride.

    Args:
        input_shape: of the features to use.
        norm: normalisation of the stem.
        stride: of the prediction, in input pixels; a divisor of the finest level's stride.
        stem_dim: a quarter of the channels of the image stem; 0 for none, and no side of it.
        deep_weight: of the sum of the sides' losses beside the fused map's 1; 0 for none of them.
        loss: ``(logits, targets) -> scalar``, see :mod:`mtl_d2.losses.edge`.
        loss_weight: within the task.

    Raises:
        ValueError: ``stride`` does not divide the finest level's, or ``deep_weight`` is negative.
    """

    gives = ()  # its sides would be computed twice

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        norm: str = "GN",
        stride: int = 1,
        stem_dim: int = 16,
        deep_weight: float = 1.0,
        loss: EdgeLoss = EDGE_LOSSES["hed"],
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(input_shape, stride=stride, loss=loss, loss_weight=loss_weight)
        if not deep_weight >= 0:
            raise ValueError(f"MODEL.MTL.EDGE_HEAD.HED.DEEP_WEIGHT is {deep_weight}, expected 0 or more")
        self.deep_weight = deep_weight
        self.levels = sorted(input_shape, key=lambda level: input_shape[level].stride)
        self.scores = nn.ModuleDict({level: _score(input_shape[level].channels) for level in self.levels})
        self.stem = ImageStem(self.cell, stem_dim * 4, norm) if stem_dim else None
        self.stem_score = CellPredictor(stem_dim * 4, self.cell // stride) if stem_dim else None
        sides = len(self.levels) + bool(stem_dim)
        self.fuse = Conv2d(sides, 1, kernel_size=1)
        nn.init.constant_(self.fuse.weight, 1 / sides)  # as the paper's 1/5
        nn.init.zeros_(self.fuse.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return {**edge_head_arguments(cfg, input_shape), "deep_weight": cfg.MODEL.MTL.EDGE_HEAD.HED.DEEP_WEIGHT}

    @property
    def loss_names(self) -> tuple[str, ...]:
        return ("loss_edge", "loss_edge_side") if self.deep_weight else ("loss_edge",)

    def side_outputs(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (N, M, H / stride, W / stride): of the levels from the finest on, then of the stem."""
        size = [length // self.stride for length in images.shape[-2:]]
        sides = [
            F.interpolate(self.scores[level](features[level]), size=size, mode="bilinear", align_corners=False)
            for level in self.levels
        ]
        if self.stem is not None and self.stem_score is not None:
            sides.append(self.stem_score(self.stem(images, memory_format(features[self.levels[0]]))))
        return torch.cat(sides, dim=1)

    def layers(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The fused logits (N, 1, H / stride, W / stride)."""
        return self.fuse(self.side_outputs(features, images))

    def losses(self, features: Mapping[str, Tensor], images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        sides = self.side_outputs(features, images)
        targets = downsample_edges(targets, self.stride)
        losses = {"loss_edge": self.loss_at_stride(self.fuse(sides), targets)}
        if self.deep_weight:
            terms = [self.loss_at_stride(side, targets) for side in sides.split(1, dim=1)]
            losses["loss_edge_side"] = torch.stack(terms).sum() * self.deep_weight
        return losses


def _score(channels: int) -> Conv2d:
    conv = Conv2d(channels, 1, kernel_size=1)
    init_predictor(conv)
    return conv
