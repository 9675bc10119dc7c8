"""Semantic FPN with a choice of criterion."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor, nn
from torch.nn import functional as F

from ...losses import HardPixels, dice_loss, masked_cross_entropy, softmax_focal_loss
from ..class_weights import ClassWeights, Weights

CRITERIA = ("ce", "focal", "dice")


@SEM_SEG_HEADS_REGISTRY.register()
class MultiTaskSemSegFPNHead(SemSegFPNHead):
    """Detectron2's semantic FPN head (Kirillov et al. 2019, Panoptic FPN), trained with the criterion of choice.

    With ``"ce"`` it equals Detectron2's, but a batch without a valid pixel gives zero instead of NaN, and training
    starts from even probabilities.

    Args:
        input_shape: of the features to use.
        loss: ``"ce"``; ``"focal"`` (Lin et al. 2017, softmax form); ``"dice"`` (Milletari et al. 2016), added to
            cross-entropy, without which its gradient vanishes for classes that are absent.
        focal_gamma: focusing parameter, at least 0.
        class_weights: a number for each class; see :class:`mtl_d2.modeling.class_weights.ClassWeights`. The mean over
            pixels is then one of weighted pixels, that of dice one of weighted classes.
        hard_pixels: which pixels cross-entropy or focal are taken over; None for all. Dice always sees all.
        **kwargs: of Detectron2's ``SemSegFPNHead``.

    Raises:
        ValueError: the criterion is unknown, or a class weight is wrong.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        loss: str = "ce",
        focal_gamma: float = 2.0,
        class_weights: Weights = None,
        hard_pixels: HardPixels | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, **kwargs)
        if loss not in CRITERIA:
            raise ValueError(f"MODEL.MTL.SEM_SEG_HEAD.LOSS is {loss!r}: expected one of {list(CRITERIA)}")
        # Detectron2's initial logits are in the tens: hundreds of steps go into unlearning them.
        nn.init.normal_(self.predictor.weight, std=0.01)
        self.class_weights = ClassWeights(
            class_weights,
            self.predictor.out_channels,
            key="MODEL.MTL.SEM_SEG_HEAD.CLASS_WEIGHTS",
            classes="each of MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        )
        self.hard_pixels = hard_pixels or HardPixels()
        self.pixel_loss = partial(softmax_focal_loss, gamma=focal_gamma) if loss == "focal" else masked_cross_entropy
        self.uses_dice = loss == "dice"

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        args = super().from_config(cfg, input_shape)
        args["loss"] = cfg.MODEL.MTL.SEM_SEG_HEAD.LOSS
        args["focal_gamma"] = cfg.MODEL.MTL.SEM_SEG_HEAD.FOCAL_GAMMA
        args["class_weights"] = cfg.MODEL.MTL.SEM_SEG_HEAD.CLASS_WEIGHTS
        ohem = cfg.MODEL.MTL.SEM_SEG_HEAD.OHEM
        args["hard_pixels"] = HardPixels(ohem.FRACTION, ohem.THRESHOLD, ohem.MIN_KEPT)
        return args

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The criterion at the input's resolution.

        Args:
            predictions: logits (N, K, H / common_stride, W / common_stride).
            targets: (N, H, W), class ids and ``ignore_value``.
        """
        logits = F.interpolate(
            predictions.float(), scale_factor=self.common_stride, mode="bilinear", align_corners=False
        )
        options = {"weight": self.class_weights(), "ignore_index": self.ignore_value}
        hard_targets = self.hard_pixels(logits, targets, ignore_index=self.ignore_value)
        loss = self.pixel_loss(logits, hard_targets, **options)
        if self.uses_dice:
            loss = loss + dice_loss(logits, targets, **options)
        return {"loss_sem_seg": loss * self.loss_weight}
