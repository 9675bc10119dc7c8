"""What semantic logits are trained with, the same for every decoder."""

from functools import partial
from typing import Any

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from ...losses import HardPixels, check_focal, dice_loss, masked_cross_entropy, softmax_focal_loss
from ..class_weights import ClassWeights, Weights

CRITERIA = ("ce", "focal", "dice")


class SemSegCriterion(nn.Module):
    """The loss of logits at the resolution of the labels, zero with a gradient where no pixel is labelled.

    Args:
        num_classes: K.
        ignore_value: of pixels without a label.
        loss: ``"ce"``; ``"focal"`` (Lin et al. 2017, softmax form); ``"dice"`` (Milletari et al. 2016), added to
            cross-entropy, without which its gradient vanishes for classes that are absent.
        focal_gamma: focusing parameter, at least 0.
        class_weights: a number for each class; see :class:`mtl_d2.modeling.class_weights.ClassWeights`. The mean over
            pixels is then one of weighted pixels, that of dice one of weighted classes.
        hard_pixels: which pixels cross-entropy or focal are taken over; None for all. Dice always sees all.
        loss_weight: within the task.

    Raises:
        ValueError: the criterion is unknown, focal_gamma is out of its range, or a class weight is wrong.
    """

    @configurable
    def __init__(
        self,
        num_classes: int,
        *,
        ignore_value: int = 255,
        loss: str = "ce",
        focal_gamma: float = 2.0,
        class_weights: Weights = None,
        hard_pixels: HardPixels | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if loss not in CRITERIA:
            raise ValueError(f"MODEL.MTL.SEM_SEG_HEAD.LOSS is {loss!r}: expected one of {list(CRITERIA)}")
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.class_weights = ClassWeights(
            class_weights,
            num_classes,
            key="MODEL.MTL.SEM_SEG_HEAD.CLASS_WEIGHTS",
            classes="each of MODEL.SEM_SEG_HEAD.NUM_CLASSES",
        )
        self.hard_pixels = hard_pixels or HardPixels()
        if loss == "focal":
            check_focal("MODEL.MTL.SEM_SEG_HEAD", gamma=focal_gamma)
        self.pixel_loss = partial(softmax_focal_loss, gamma=focal_gamma) if loss == "focal" else masked_cross_entropy
        self.uses_dice = loss == "dice"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        head = cfg.MODEL.MTL.SEM_SEG_HEAD
        return {
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "loss": head.LOSS,
            "focal_gamma": head.FOCAL_GAMMA,
            "class_weights": head.CLASS_WEIGHTS,
            "hard_pixels": HardPixels(head.OHEM.FRACTION, head.OHEM.THRESHOLD, head.OHEM.MIN_KEPT),
            "loss_weight": cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT,
        }

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The weighted scalar.

        Args:
            logits: (N, K, H, W), any float type.
            targets: (N, H, W), class ids and ``ignore_value``.
        """
        logits = logits.float()
        options = {"weight": self.class_weights(), "ignore_index": self.ignore_value}
        hard_targets = self.hard_pixels(logits, targets, ignore_index=self.ignore_value)
        loss = self.pixel_loss(logits, hard_targets, **options)
        if self.uses_dice:
            loss = loss + dice_loss(logits, targets, **options)
        return loss * self.loss_weight
