"""Semantic FPN with a choice of criterion."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor, add, nn
from torch.nn import functional as F

from ..shared_names import SEM_SEG_LOGITS, SEM_SEG_TOWER
from .criterion import SemSegCriterion


@SEM_SEG_HEADS_REGISTRY.register()
class MultiTaskSemSegFPNHead(SemSegFPNHead):
    """Detectron2's semantic FPN head (Kirillov et al. 2019, Panoptic FPN), trained with the criterion of choice.

    With cross-entropy it equals Detectron2's, but a batch without a valid pixel gives zero instead of NaN, and training
    starts from even probabilities.

    Args:
        input_shape: of the features to use.
        criterion: ``(logits, targets) -> scalar`` at the labels' resolution; cross-entropy by default.
        **kwargs: of Detectron2's ``SemSegFPNHead``.
    """

    gives: tuple[str, ...] = (SEM_SEG_TOWER, SEM_SEG_LOGITS)

    @configurable
    def __init__(
        self, input_shape: Mapping[str, ShapeSpec], *, criterion: SemSegCriterion | None = None, **kwargs: Any
    ) -> None:
        super().__init__(input_shape, **kwargs)
        # Detectron2's initial logits are in the tens: hundreds of steps go into unlearning them.
        nn.init.normal_(self.predictor.weight, std=0.01)
        self.criterion = criterion or SemSegCriterion(
            self.predictor.out_channels, ignore_value=self.ignore_value, loss_weight=self.loss_weight
        )

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return super().from_config(cfg, input_shape) | {"criterion": SemSegCriterion(cfg)}

    @staticmethod
    def tower_shape(cfg: Any) -> ShapeSpec:
        """Of SEM_SEG_TOWER, what :meth:`tower` gives in the network of a config."""
        return ShapeSpec(channels=cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM, stride=cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE)

    def tower(self, features: Mapping[str, Tensor]) -> Tensor:
        """The levels brought to one stride and added up, (N, C, H / common_stride, W / common_stride)."""
        levels = zip(self.in_features, self.scale_heads, strict=True)
        return reduce(add, (scale_head(features[name]) for name, scale_head in levels))

    def shared_features(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tower's map and the logits of it, at ``common_stride``."""
        tower = self.tower(features)
        return {SEM_SEG_TOWER: tower, SEM_SEG_LOGITS: self.predictor(tower)}

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits at ``common_stride``; those in ``features`` if they were made for another branch."""
        return features[SEM_SEG_LOGITS] if SEM_SEG_LOGITS in features else self.predictor(self.tower(features))

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The criterion at the input's resolution.

        Args:
            predictions: logits (N, K, H / common_stride, W / common_stride).
            targets: (N, H, W), class ids and ``ignore_value``.
        """
        logits = F.interpolate(
            predictions.float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )
        return {"loss_sem_seg": self.criterion(logits, targets)}
