"""Semantic FPN with a choice of criterion."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor, nn
from torch.nn import functional as F

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
