"""Semantic segmentation by any decoder."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ..decoders import Decoder, build_decoder, select_levels
from ..decoders.resize import size_of, upsample
from .criterion import SemSegCriterion


@SEM_SEG_HEADS_REGISTRY.register()
class DecoderSemSegHead(nn.Module):
    """The scores of a decoder, brought to the resolution of the labels.

    Args:
        decoder: gives one score for each class.
        criterion: ``(logits, targets) -> scalar`` at the labels' resolution.

    Attributes:
        loss_names: keys of the losses: ``loss_sem_seg``, and ``loss_sem_seg_<name>`` of each auxiliary output.
    """

    @configurable
    def __init__(self, *, decoder: Decoder, criterion: SemSegCriterion) -> None:
        super().__init__()
        self.decoder = decoder
        self.criterion = criterion
        self.ignore_value = criterion.ignore_value
        self.loss_names = ("loss_sem_seg", *(f"loss_sem_seg_{name}" for name in decoder.auxiliary_weights))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        decoder = build_decoder(
            cfg,
            select_levels(input_shape, head.IN_FEATURES, "MODEL.SEM_SEG_HEAD.IN_FEATURES"),
            name=cfg.MODEL.MTL.SEM_SEG_HEAD.DECODER,
            key="MODEL.MTL.SEM_SEG_HEAD.DECODER",
            out_channels=head.NUM_CLASSES,
            conv_dims=head.CONVS_DIM,
            norm=head.NORM,
        )
        return {"decoder": decoder, "criterion": SemSegCriterion(cfg)}

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training ``(None, losses)``, else ``(logits, {})``.

        Args:
            features: ``{level: (N, C, H / s, W / s)}``.
            targets: (N, H, W), class ids and ``ignore_value``; in training.

        Returns:
            float32 logits (N, K, H, W), bilinear to the input's resolution; where the decoder's stride does not divide
            it, up to a stride more.
        """
        scores = self.layers(features)
        if not self.training:
            return upsample(scores.float(), self.decoder.stride), {}
        assert targets is not None, "training needs targets"
        return None, self.losses(scores, targets) | self.auxiliary_losses(features, targets)

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K, H / stride, W / stride) at the decoder's stride."""
        return self.decoder(features)

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The criterion of logits at the decoder's stride, at the resolution of the targets (N, H, W)."""
        return {"loss_sem_seg": self.criterion(self._at_labels(predictions, targets), targets)}

    def auxiliary_losses(self, features: Mapping[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """The weighted criterion of each auxiliary output."""
        return {
            f"loss_sem_seg_{name}": self.decoder.auxiliary_weights[name]
            * self.criterion(self._at_labels(scores, targets), targets)
            for name, scores in self.decoder.auxiliary(features).items()
        }

    def _at_labels(self, scores: Tensor, targets: Tensor) -> Tensor:
        return upsample(scores.float(), self.decoder.stride, size_of(targets))
