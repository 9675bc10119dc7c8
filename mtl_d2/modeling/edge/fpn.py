"""An edge head on several FPN levels that predicts finer than it computes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from ...losses import EDGE_LOSSES, fixed_weight_loss
from ...structures import downsample_edges
from ..shared_names import EDGE_LOGITS
from .build import EDGE_HEADS_REGISTRY

IGNORE = 255


def _conv(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=3,
        padding=1,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
    weight_init.c2_msra_fill(conv)
    return conv


@EDGE_HEADS_REGISTRY.register()
class FPNEdgeHead(nn.Module):
    """Edges from several levels, at any stride down to a pixel, without a feature map finer than the finest level.

    The levels are brought to the finest one's stride s by the decoder of semantic FPN (Kirillov et al. 2019). For
    detail, a thin stem sees the image itself, its s x s blocks moved to channels. A 1x1 convolution predicts r x r
    logits a cell, r = s / ``stride``, which are then moved to pixels (sub-pixel convolution, Shi et al. 2016). At
    stride 1 a 1024x1024 image so needs 4 MiB of float32 logits, where a 128-channel map at full size needs 512.

    Args:
        input_shape: of the features to use.
        conv_dims: channels of the decoder.
        norm: normalisation of all convolutions.
        stride: of the prediction, in input pixels; a divisor of the finest level's stride.
        stem_dim: channels of the image stem; 0 for none.
        loss: ``(logits, targets) -> scalar``, see :mod:`mtl_d2.losses.edge`.
        loss_weight: within the task.

    Raises:
        ValueError: ``stride`` does not divide the finest level's.
    """

    ignore_value = IGNORE
    gives = (EDGE_LOGITS,)

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        conv_dims: int = 64,
        norm: str = "GN",
        stride: int = 1,
        stem_dim: int = 16,
        loss: Callable[[Tensor, Tensor], Tensor] = EDGE_LOSSES["hed"],
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        cell = min(shape.stride for shape in input_shape.values())
        if stride < 1 or cell % stride:
            raise ValueError(f"MODEL.MTL.EDGE_HEAD.STRIDE is {stride}: expected a divisor of {cell}")
        self.cell = cell
        self.stride = stride
        self.loss = loss
        self.loss_weight = loss_weight
        self.decoder = SemSegFPNHead(
            input_shape,
            num_classes=conv_dims,
            conv_dims=conv_dims,
            common_stride=cell,
            norm=norm,
            ignore_value=IGNORE,
        )
        self.stem = nn.Sequential()
        if stem_dim:
            block = 3 * cell**2
            self.stem = nn.Sequential(_conv(block, stem_dim * 4, norm), _conv(stem_dim * 4, stem_dim * 4, norm))
        self.fuse = _conv(conv_dims + stem_dim * 4, conv_dims, norm)
        self.predictor = Conv2d(conv_dims, (cell // stride) ** 2, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.MTL.EDGE_HEAD
        missing = [name for name in head.IN_FEATURES if name not in input_shape]
        if missing:
            raise ValueError(
                f"MODEL.MTL.EDGE_HEAD.IN_FEATURES asks for {missing}: the backbone gives {sorted(input_shape)}"
            )
        if head.LOSS not in EDGE_LOSSES:
            raise ValueError(f"MODEL.MTL.EDGE_HEAD.LOSS is {head.LOSS!r}: expected one of {sorted(EDGE_LOSSES)}")
        return {
            "input_shape": {name: input_shape[name] for name in head.IN_FEATURES},
            "conv_dims": head.CONVS_DIM,
            "norm": head.NORM,
            "stride": head.STRIDE,
            "stem_dim": head.STEM_DIM,
            "loss": _edge_loss(head.LOSS, head.POSITIVE_WEIGHT),
            "loss_weight": head.LOSS_WEIGHT,
        }

    def forward(
        self, features: Mapping[str, Tensor], images: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training ``(None, losses)``, else ``(logits, {})``.

        Args:
            features: ``{level: (N, C, H / s, W / s)}``.
            images: (N, 3, H, W), normalised and padded; H and W divide by the finest level's stride.
            targets: (N, H, W) in {0, 1, 255}, 255 for ignored pixels; in training.

        Returns:
            logits (N, 1, H, W) in float32: bilinear to the input's resolution if predicted at another stride.
        """
        logits = self.layers(features, images).float()
        if self.training:
            assert targets is not None, "training needs targets"
            return None, self.losses(logits, targets)
        if self.stride > 1:
            logits = F.interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)
        return logits, {}

    def layers(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (N, 1, H / stride, W / stride); those in ``features`` if they were made for another branch."""
        if EDGE_LOGITS in features:
            return features[EDGE_LOGITS]
        parts = [self.decoder.layers(features)]
        if len(self.stem):
            blocks = F.pixel_unshuffle(images, self.cell)
            parts.append(self.stem(blocks.contiguous(memory_format=_memory_format(parts[0]))))
        x = self.predictor(self.fuse(torch.cat(parts, dim=1)))
        return F.pixel_shuffle(x, self.cell // self.stride)

    def losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The edge loss at the prediction's stride; targets are brought to it by max-pooling."""
        targets = downsample_edges(targets, self.stride)
        return {"loss_edge": self.loss(logits.squeeze(1), targets) * self.loss_weight}


def _edge_loss(name: str, positive_weight: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of that name, the fixed one with the given weight of the edge pixels."""
    if name != "fixed":
        return EDGE_LOSSES[name]
    if not 0 < positive_weight < 1:
        raise ValueError(f"MODEL.MTL.EDGE_HEAD.POSITIVE_WEIGHT is {positive_weight}, expected a share in (0, 1)")
    return partial(fixed_weight_loss, positive_weight=positive_weight)


def _memory_format(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
