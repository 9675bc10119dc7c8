"""Edges by any decoder."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor
from torch.nn import functional as F

from ...losses import EDGE_LOSSES
from ...structures import downsample_edges
from ..decoders import Decoder, build_decoder, select_levels
from ..decoders.resize import Size, fit
from .base import EdgeHead
from .build import EDGE_HEADS_REGISTRY
from .criterion import EdgeLoss, build_edge_loss


@EDGE_HEADS_REGISTRY.register()
class DecoderEdgeHead(EdgeHead):
    """The scores of a decoder, moved to pixels.

    Of a decoder at stride s, r x r scores a cell are one logit for each of its r x r parts (sub-pixel convolution, Shi
    et al., Real-Time Single Image and Video Super-Resolution, CVPR 2016): the prediction has stride s / r.

    Args:
        decoder: gives r * r scores.
        stride: of the prediction, in input pixels: the decoder's over r.
        loss: ``(logits, targets) -> scalar``, see :mod:`mtl_d2.losses.edge`.
        loss_weight: within the task.

    Attributes:
        loss_names: keys of the losses: ``loss_edge``, and ``loss_edge_<name>`` of each auxiliary output.

    Raises:
        ValueError: ``stride`` does not divide the decoder's.
    """

    @configurable
    def __init__(
        self,
        *,
        decoder: Decoder,
        stride: int = 1,
        loss: EdgeLoss = EDGE_LOSSES["hed"],
        loss_weight: float = 1.0,
    ) -> None:
        scores = {"scores": ShapeSpec(stride=decoder.stride)}
        super().__init__(scores, stride=stride, loss=loss, loss_weight=loss_weight)
        self.decoder = decoder
        self.parts = self.cell // stride

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.MTL.EDGE_HEAD
        decoder = build_decoder(
            cfg,
            select_levels(input_shape, head.IN_FEATURES, "MODEL.MTL.EDGE_HEAD.IN_FEATURES"),
            name=head.DECODER,
            key="MODEL.MTL.EDGE_HEAD.DECODER",
            out_channels=lambda stride: _parts(stride, head.STRIDE) ** 2,
            conv_dims=head.CONVS_DIM,
            norm=head.NORM,
        )
        return {
            "decoder": decoder,
            "stride": head.STRIDE,
            "loss": build_edge_loss(head),
            "loss_weight": head.LOSS_WEIGHT,
        }

    @property
    def loss_names(self) -> tuple[str, ...]:
        return ("loss_edge", *(f"loss_edge_{name}" for name in self.decoder.auxiliary_weights))

    def layers(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (N, 1, ceil(H / stride), ceil(W / stride))."""
        return self._at_stride(self.decoder(features), images)

    def losses(self, features: Mapping[str, Tensor], images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        losses = super().losses(features, images, targets)
        targets = downsample_edges(targets, self.stride)
        for name, scores in self.decoder.auxiliary(features).items():
            loss = self.loss_at_stride(self._at_stride(scores, images), targets)
            losses[f"loss_edge_{name}"] = self.decoder.auxiliary_weights[name] * loss
        return losses

    def _at_stride(self, scores: Tensor, images: Tensor) -> Tensor:
        size: Size = (-(-images.shape[-2] // self.stride), -(-images.shape[-1] // self.stride))
        return fit(F.pixel_shuffle(scores, self.parts), size)


def _parts(decoder_stride: int, stride: int) -> int:
    """r, the parts of a cell along each side."""
    if stride < 1 or decoder_stride % stride:
        raise ValueError(
            f"MODEL.MTL.EDGE_HEAD.STRIDE is {stride}: expected a divisor of {decoder_stride}, the decoder's stride"
        )
    return decoder_stride // stride
