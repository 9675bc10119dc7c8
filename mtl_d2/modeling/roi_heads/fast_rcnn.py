"""Detectron2's box predictor with a choice of losses, and in float32 under AMP."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor

from mtl_d2.losses import focal_prior_bias, iou_loss


class MultiTaskFastRCNNOutputLayers(FastRCNNOutputLayers):
    """FastRCNNOutputLayers with softmax cross-entropy or sigmoid focal loss, and the box loss "iou".

    With cross-entropy and one of Detectron2's box losses it is Detectron2's predictor to the bit. With the
    focal loss ("Focal Loss for Dense Object Detection", Lin et al. 2017) the K classes are K independent
    sigmoids, normalised by the number of foreground regions. The background keeps its column, so that weights
    and Detectron2's inference fit, but the column is not trained.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        cls_loss: str = "ce",
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            cls_loss: "ce" or "focal".
            focal_alpha: weight of the positives in (0, 1), or -1 for none.
            focal_gamma: focusing exponent, >= 0.
            kwargs: those of FastRCNNOutputLayers; `box_reg_loss_type` may be "iou" too.

        Raises:
            ValueError: unknown `cls_loss`.
        """
        super().__init__(input_shape, **kwargs)
        if cls_loss not in ("ce", "focal"):
            raise ValueError(f"MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS is {cls_loss!r}, expected 'ce' or 'focal'")
        self.cls_loss = cls_loss
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        if cls_loss == "focal":
            with torch.no_grad():
                self.cls_score.bias[: self.num_classes] = focal_prior_bias()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {
            **super().from_config(cfg, input_shape),
            "cls_loss": cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS,
            "focal_alpha": cfg.MODEL.MTL.ROI_BOX_HEAD.FOCAL_ALPHA,
            "focal_gamma": cfg.MODEL.MTL.ROI_BOX_HEAD.FOCAL_GAMMA,
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (R, K + 1) and deltas (R, K * 4) or (R, 4), in float32 under AMP too."""
        scores, proposal_deltas = super().forward(x)
        return scores.float(), proposal_deltas.float()

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]) -> dict[str, Tensor]:
        """See FastRCNNOutputLayers.losses, whose arguments and keys these are."""
        if self.cls_loss == "ce":
            return super().losses(predictions, proposals)
        scores, proposal_deltas = predictions
        class_scores = scores[:, : self.num_classes]
        # A background score of 0 makes Detectron2's accuracies count what no sigmoid calls more than even.
        # The cross-entropy that comes with them is replaced.
        logged_scores = F.pad(class_scores.detach(), (0, 1))
        losses = super().losses((logged_scores, proposal_deltas), proposals)
        gt_classes = cat([p.gt_classes for p in proposals], dim=0)
        loss_cls = self._focal_loss(class_scores, gt_classes)
        losses["loss_cls"] = loss_cls * self.loss_weight.get("loss_cls", 1.0)
        return losses

    def _focal_loss(self, class_scores: Tensor, gt_classes: Tensor) -> Tensor:
        """Sum over (R, K) / max(foreground regions, 1); `gt_classes` (R,) in [0, K], K for background."""
        targets = F.one_hot(gt_classes, self.num_classes + 1)[:, : self.num_classes].to(class_scores.dtype)
        loss = sigmoid_focal_loss(
            class_scores, targets, alpha=self.focal_alpha, gamma=self.focal_gamma, reduction="sum"
        )
        return loss / (gt_classes < self.num_classes).sum().clamp(min=1)

    def box_reg_loss(self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor) -> Tensor:
        """See FastRCNNOutputLayers.box_reg_loss; "iou" is normalised as the others are, by all regions."""
        if self.box_reg_loss_type != "iou":
            return super().box_reg_loss(proposal_boxes, gt_boxes, pred_deltas, gt_classes)
        (foreground,) = ((gt_classes >= 0) & (gt_classes < self.num_classes)).nonzero(as_tuple=True)
        class_deltas = pred_deltas.unflatten(1, (-1, proposal_boxes.shape[1]))  # (R, K or 1, 4)
        agnostic = class_deltas.shape[1] == 1
        columns = torch.zeros_like(foreground) if agnostic else gt_classes[foreground]
        pred_boxes = self.box2box_transform.apply_deltas(class_deltas[foreground, columns], proposal_boxes[foreground])
        return iou_loss(pred_boxes, gt_boxes[foreground], reduction="sum") / max(gt_classes.numel(), 1)

    def predict_probs(self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]) -> list[Tensor]:
        """See FastRCNNOutputLayers.predict_probs: per image (R, K + 1), the last for background.

        With the focal loss each class has its own sigmoid, and the background what the likeliest leaves: it
        fills the column that Detectron2's inference drops.
        """
        if self.cls_loss == "ce":
            return super().predict_probs(predictions, proposals)
        probs = predictions[0][:, : self.num_classes].sigmoid()
        background = 1 - probs.amax(dim=1, keepdim=True)
        return torch.cat([probs, background], dim=1).split([len(p) for p in proposals])
