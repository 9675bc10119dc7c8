"""Detectron2's box predictor with a choice of losses, and in float32 under AMP."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat, ciou_loss, diou_loss
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor

from mtl_d2.losses import check_focal, focal_prior_bias, iou_loss, masked_cross_entropy, sigmoid_focal_loss

from ..class_weights import ClassWeights, Weights
from ..finite import split_finite

NO_CLASS = -1  # of a target that is ignored: no region here is
_OVERLAP_LOSSES: dict[str, Callable[..., Tensor]] = {
    "iou": iou_loss,
    "giou": giou_loss,
    "diou": diou_loss,
    "ciou": ciou_loss,
}


class MultiTaskFastRCNNOutputLayers(FastRCNNOutputLayers):
    """FastRCNNOutputLayers with softmax cross-entropy or sigmoid focal loss, and the box loss "iou".

    With cross-entropy and one of Detectron2's box losses it is Detectron2's predictor to the bit. With the
    focal loss ("Focal Loss for Dense Object Detection", Lin et al. 2017) the K classes are K independent
    sigmoids, normalised by the number of foreground regions. The background keeps its column, so that weights
    and Detectron2's inference fit, but the column is not trained.

    Class weights are those of a region's own class, the background's last: cross-entropy becomes the weighted mean over
    the regions, and focal ("Class-Balanced Loss Based on Effective Number of Samples", Cui et al. 2019, equation 10)
    the weighted sum over the sum of the foreground's weights.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        cls_loss: str = "ce",
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        class_weights: Weights = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            cls_loss: "ce" or "focal".
            focal_alpha: weight of the positives in (0, 1), or -1 for none.
            focal_gamma: focusing exponent, >= 0.
            class_weights: K + 1 numbers; see :class:`mtl_d2.modeling.class_weights.ClassWeights`.
            kwargs: those of FastRCNNOutputLayers; `box_reg_loss_type` may be "iou" too.

        Raises:
            ValueError: unknown `cls_loss`, an option of focal out of its range, or a wrong class weight.
        """
        super().__init__(input_shape, **kwargs)
        if cls_loss not in ("ce", "focal"):
            raise ValueError(f"MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS is {cls_loss!r}, expected 'ce' or 'focal'")
        self.cls_loss = cls_loss
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.class_weights = ClassWeights(
            class_weights,
            self.num_classes + 1,
            key="MODEL.MTL.ROI_BOX_HEAD.CLASS_WEIGHTS",
            classes="each of MODEL.ROI_HEADS.NUM_CLASSES and, at last, one for the background",
        )
        if cls_loss == "focal":
            check_focal("MODEL.MTL.ROI_BOX_HEAD", gamma=focal_gamma, alpha=focal_alpha)
            with torch.no_grad():
                self.cls_score.bias[: self.num_classes] = focal_prior_bias()

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {
            **super().from_config(cfg, input_shape),
            "cls_loss": cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS,
            "focal_alpha": cfg.MODEL.MTL.ROI_BOX_HEAD.FOCAL_ALPHA,
            "focal_gamma": cfg.MODEL.MTL.ROI_BOX_HEAD.FOCAL_GAMMA,
            "class_weights": cfg.MODEL.MTL.ROI_BOX_HEAD.CLASS_WEIGHTS,
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (R, K + 1) and deltas (R, K * 4) or (R, 4), in float32 under AMP too."""
        scores, proposal_deltas = super().forward(x)
        return scores.float(), proposal_deltas.float()

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]) -> dict[str, Tensor]:
        """See FastRCNNOutputLayers.losses, whose arguments and keys these are."""
        weights = self.class_weights()
        if self.cls_loss == "ce" and weights is None:
            return super().losses(predictions, proposals)
        scores, proposal_deltas = predictions
        gt_classes = cat([p.gt_classes for p in proposals], dim=0)
        # Detectron2's accuracies and box loss; the cross-entropy that comes with them is replaced.
        losses = super().losses((self._logged_scores(scores.detach()), proposal_deltas), proposals)
        if self.cls_loss == "ce":
            loss_cls = masked_cross_entropy(scores, gt_classes, weight=weights, ignore_index=NO_CLASS)
        else:
            loss_cls = self._focal_loss(scores, gt_classes, weights)
        losses["loss_cls"] = loss_cls * self.loss_weight.get("loss_cls", 1.0)
        return losses

    def _logged_scores(self, scores: Tensor) -> Tensor:
        """With focal, a background score of 0 makes the accuracies count what no sigmoid calls more than even."""
        return scores if self.cls_loss == "ce" else F.pad(scores[:, : self.num_classes], (0, 1))

    def _focal_loss(self, scores: Tensor, gt_classes: Tensor, weights: Tensor | None) -> Tensor:
        """Sum over (R, K) / max(foreground regions, 1), of weighted regions where there are weights.

        Without foreground that is one region of mean weight: the scale of the weights does not matter.
        """
        loss, foreground = self._sigmoid_focal(scores, gt_classes), gt_classes < self.num_classes
        if weights is None:
            return loss.sum() / foreground.sum().clamp(min=1)
        weight = weights[gt_classes]
        total = (weight * foreground).sum()
        return (loss * weight[:, None]).sum() / torch.where(total > 0, total, weights.mean())

    def _sigmoid_focal(self, scores: Tensor, gt_classes: Tensor) -> Tensor:
        """(R, K), from (R, K + 1) and (R,) in [0, K], K for background."""
        class_scores = scores[:, : self.num_classes]
        targets = F.one_hot(gt_classes, self.num_classes + 1)[:, : self.num_classes].to(class_scores.dtype)
        return sigmoid_focal_loss(class_scores, targets, alpha=self.focal_alpha, gamma=self.focal_gamma)

    @torch.no_grad()
    def region_losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]) -> Tensor:
        """(R,) how wrong each region is: its class loss plus, of a foreground region, its box loss.

        Class weights have no say in it.

        Args:
            predictions, proposals: as in :meth:`losses`.
        """
        scores, deltas = predictions
        gt_classes = cat([p.gt_classes for p in proposals], dim=0)
        if self.cls_loss == "ce":
            class_losses = F.cross_entropy(scores, gt_classes, reduction="none")
        else:
            class_losses = self._sigmoid_focal(scores, gt_classes).sum(1)
        boxes = cat([p.proposal_boxes.tensor for p in proposals], dim=0)
        gt_boxes = cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals], dim=0)
        foreground, box_losses = self._foreground_box_losses(boxes, gt_boxes, split_finite(deltas)[0], gt_classes)
        losses = class_losses * self.loss_weight.get("loss_cls", 1.0)
        losses[foreground] += box_losses * self.loss_weight.get("loss_box_reg", 1.0)
        return losses

    def box_reg_loss(self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor) -> Tensor:
        """See FastRCNNOutputLayers.box_reg_loss; "iou" is normalised as the others are, by all regions.

        An infinite or NaN prediction of a foreground region is a NaN, not an error.
        """
        deltas, marks = split_finite(pred_deltas)
        if self.box_reg_loss_type == "iou":
            _, losses = self._foreground_box_losses(proposal_boxes, gt_boxes, deltas, gt_classes)
            loss = losses.sum() / max(gt_classes.numel(), 1)
        else:
            loss = super().box_reg_loss(proposal_boxes, gt_boxes, deltas, gt_classes)
        return loss + torch.where(self._is_foreground(gt_classes)[:, None], marks, 0.0).sum()

    def _is_foreground(self, gt_classes: Tensor) -> Tensor:
        return (gt_classes >= 0) & (gt_classes < self.num_classes)

    def _foreground_box_losses(
        self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Indices of the F foreground regions, and their box losses, both (F,); arguments as in `box_reg_loss`."""
        (foreground,) = self._is_foreground(gt_classes).nonzero(as_tuple=True)
        class_deltas = pred_deltas.unflatten(1, (-1, proposal_boxes.shape[1]))  # (R, K or 1, 4)
        agnostic = class_deltas.shape[1] == 1
        columns = torch.zeros_like(foreground) if agnostic else gt_classes[foreground]
        deltas, boxes, targets = class_deltas[foreground, columns], proposal_boxes[foreground], gt_boxes[foreground]
        if self.box_reg_loss_type == "smooth_l1":
            target_deltas = self.box2box_transform.get_deltas(boxes, targets)
            return foreground, smooth_l1_loss(deltas, target_deltas, self.smooth_l1_beta).sum(1)
        pred_boxes = self.box2box_transform.apply_deltas(deltas, boxes)
        return foreground, _OVERLAP_LOSSES[self.box_reg_loss_type](pred_boxes, targets)

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
