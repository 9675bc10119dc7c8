"""Edges by any decoder."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ...losses import EDGE_LOSSES
from ...structures import downsample_edges
from ..decoders import Decoder, build_decoder, select_levels
from ..decoders.resize import Size, fit, size_of, upsample
from .build import EDGE_HEADS_REGISTRY
from .criterion import EdgeLoss, build_edge_loss
from .fpn import IGNORE


@EDGE_HEADS_REGISTRY.register()
class DecoderEdgeHead(nn.Module):
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

    ignore_value = IGNORE

    @configurable
    def __init__(
        self,
        *,
        decoder: Decoder,
        stride: int = 1,
        loss: EdgeLoss = EDGE_LOSSES["hed"],
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.stride = stride
        self.parts = _parts(decoder.stride, stride)
        self.loss = loss
        self.loss_weight = loss_weight
        self.loss_names = ("loss_edge", *(f"loss_edge_{name}" for name in decoder.auxiliary_weights))

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

    def forward(
        self, features: Mapping[str, Tensor], images: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training ``(None, losses)``, else ``(logits, {})``.

        Args:
            features: ``{level: (N, C, H / s, W / s)}``.
            images: (N, 3, H, W); its size alone is read.
            targets: (N, H, W) in {0, 1, 255}, 255 for ignored pixels; in training.

        Returns:
            logits (N, 1, H, W) in float32: bilinear to the input's resolution if predicted at another stride.
        """
        scores = self.decoder(features)
        if not self.training:
            return upsample(self._at_stride(scores), self.stride, size_of(images)), {}
        assert targets is not None, "training needs targets"
        targets = downsample_edges(targets, self.stride)
        losses = {"loss_edge": self.loss_weight * self._loss(scores, targets)}
        for name, auxiliary in self.decoder.auxiliary(features).items():
            weight = self.loss_weight * self.decoder.auxiliary_weights[name]
            losses[f"loss_edge_{name}"] = weight * self._loss(auxiliary, targets)
        return None, losses

    def _loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self.loss(self._at_stride(scores, size_of(targets)).squeeze(1), targets)

    def _at_stride(self, scores: Tensor, size: Size | None = None) -> Tensor:
        """Logits (N, 1, h, w) in float32 at the prediction's stride, of exactly that size where one is given."""
        logits = F.pixel_shuffle(scores, self.parts).float()
        return logits if size is None else fit(logits, size)


def _parts(decoder_stride: int, stride: int) -> int:
    """r, the parts of a cell along each side."""
    if stride < 1 or decoder_stride % stride:
        raise ValueError(
            f"MODEL.MTL.EDGE_HEAD.STRIDE is {stride}: expected a divisor of {decoder_stride}, the decoder's stride"
        )
    return decoder_stride // stride
