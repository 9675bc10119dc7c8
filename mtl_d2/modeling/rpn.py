"""Detectron2's region proposal network with a choice of losses, and in float32 under AMP."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling.box_regression import _dense_box_regression_loss
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mtl_d2.losses import check_focal, focal_prior_bias, iou_loss, sigmoid_focal_loss

from .crowds import in_crowd
from .finite import split_finite

_NO_PROPOSAL = -1e8  # a logit below all others


@PROPOSAL_GENERATOR_REGISTRY.register()
class MultiTaskRPN(RPN):
    """RPN with objectness by cross-entropy or focal loss, and the box loss "iou" beside Detectron2's.

    With cross-entropy and one of Detectron2's box losses it is Detectron2's RPN to the bit. With the focal
    loss ("Focal Loss for Dense Object Detection", Lin et al. 2017) every anchor that is not ignored counts,
    none is sampled, and both losses are divided by the number of positive anchors in the batch instead of by
    the size of the sample.

    Anchors in a crowd (:func:`mtl_d2.modeling.crowds.set_crowds`) are ignored where Detectron2 calls them negative.
    """

    @configurable
    def __init__(
        self,
        *,
        objectness_loss: str = "ce",
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        positive_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            objectness_loss: "ce" or "focal".
            focal_alpha: weight of the positive anchors in (0, 1), or -1 for none.
            focal_gamma: focusing exponent, >= 0.
            positive_weight: of the positive anchors in the objectness loss, beside 1 of the negatives; > 0. It comes
                on top of `focal_alpha`.
            kwargs: those of Detectron2's RPN; `box_reg_loss_type` may be "iou" too.

        Raises:
            ValueError: unknown `objectness_loss`, or an option out of its range.
        """
        super().__init__(**kwargs)
        if objectness_loss not in ("ce", "focal"):
            raise ValueError(f"MODEL.MTL.RPN.OBJECTNESS_LOSS is {objectness_loss!r}, expected 'ce' or 'focal'")
        self.objectness_loss = objectness_loss
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.positive_weight = _checked_weight(positive_weight)
        if objectness_loss == "focal":
            check_focal("MODEL.MTL.RPN", gamma=focal_gamma, alpha=focal_alpha)
            nn.init.constant_(self.rpn_head.objectness_logits.bias, focal_prior_bias())

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        return {
            **super().from_config(cfg, input_shape),
            "objectness_loss": cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS,
            "focal_alpha": cfg.MODEL.MTL.RPN.FOCAL_ALPHA,
            "focal_gamma": cfg.MODEL.MTL.RPN.FOCAL_GAMMA,
            "positive_weight": cfg.MODEL.MTL.RPN.POSITIVE_WEIGHT,
        }

    @torch.no_grad()
    def propose(self, images: ImageList, features: dict[str, Tensor]) -> list[Instances]:
        """The proposals of :meth:`forward` in the same mode, without losses: nothing is sampled, no statistic moves."""
        head_mode = {module: module.training for module in self.rpn_head.modules()}
        self.rpn_head.eval()
        inputs = [features[name] for name in self.in_features]
        logits, deltas = self.rpn_head(inputs)
        for module, training in head_mode.items():
            module.training = training
        if not torch.is_grad_enabled():
            torch.clear_autocast_cache()  # older torch would train with the casts from here, which have no gradient
        box_dim = self.anchor_generator.box_dim
        flat_logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
        flat_deltas = [x.unflatten(1, (-1, box_dim)).permute(0, 3, 4, 1, 2).flatten(1, -2) for x in deltas]
        return self.predict_proposals(self.anchor_generator(inputs), flat_logits, flat_deltas, images.image_sizes)

    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See RPN.label_and_sample_anchors; the places of the anchors in crowds are not sampled anew."""
        labels, boxes = super().label_and_sample_anchors(anchors, gt_instances)
        all_anchors = Boxes.cat(anchors)
        for label, instances in zip(labels, gt_instances, strict=True):
            label[(label == 0) & in_crowd(all_anchors, instances)] = -1
        return labels, boxes

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """The focal loss weighs the easy anchors down instead of dropping them."""
        return label if self.objectness_loss == "focal" else super()._subsample_labels(label)

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """See RPN.losses, whose arguments and keys these are; an infinite or NaN prediction is a NaN, not an error."""
        deltas, marks = map(list, zip(*map(split_finite, _float32(pred_anchor_deltas)), strict=True))
        losses = self._losses(anchors, _float32(pred_objectness_logits), gt_labels, deltas, gt_boxes)
        positive = (torch.stack(gt_labels) == 1).unsqueeze(-1)
        losses["loss_rpn_loc"] = losses["loss_rpn_loc"] + torch.where(positive, cat(marks, dim=1), 0.0).sum()
        return losses

    def _losses(
        self,
        anchors: list[Boxes],
        logits: list[Tensor],
        gt_labels: list[Tensor],
        deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        if (self.objectness_loss, self.positive_weight) == ("ce", 1) and self.box_reg_loss_type != "iou":
            return super().losses(anchors, logits, gt_labels, deltas, gt_boxes)
        labels = torch.stack(gt_labels)  # (N, R): 1 positive, 0 negative, -1 ignored
        positive = labels == 1
        _log_anchor_counts(labels)
        if self.objectness_loss == "focal":
            normalizer = positive.sum().clamp(min=1)
        else:
            normalizer = self.batch_size_per_image * len(gt_labels)
        losses = {
            "loss_rpn_cls": self._objectness_loss(cat(logits, dim=1), labels) / normalizer,
            "loss_rpn_loc": self._box_loss(anchors, deltas, gt_boxes, positive) / normalizer,
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def _objectness_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum over the anchors that are not ignored; both arguments (N, R)."""
        valid = labels >= 0
        logits, targets = logits[valid], labels[valid].to(torch.float32)
        if self.objectness_loss == "ce":
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        else:
            loss = sigmoid_focal_loss(logits, targets, alpha=self.focal_alpha, gamma=self.focal_gamma)
        return (loss * torch.where(targets == 1, self.positive_weight, 1.0)).sum()

    def _box_loss(self, anchors: list[Boxes], deltas: list[Tensor], gt_boxes: list[Tensor], positive: Tensor) -> Tensor:
        """Sum over the positive anchors; `positive` is (N, R)."""
        if self.box_reg_loss_type != "iou":
            return _dense_box_regression_loss(
                anchors,
                self.box2box_transform,
                deltas,
                gt_boxes,
                positive,
                box_reg_loss_type=self.box_reg_loss_type,
                smooth_l1_beta=self.smooth_l1_beta,
            )
        image, anchor = positive.nonzero(as_tuple=True)
        pred_boxes = self.box2box_transform.apply_deltas(
            cat(deltas, dim=1)[image, anchor], Boxes.cat(anchors).tensor[anchor]
        )
        return iou_loss(pred_boxes, torch.stack(gt_boxes)[image, anchor], reduction="sum")

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """See RPN.predict_proposals. In float32: bf16 has 8 bits for a coordinate.

        What is infinite or NaN is no proposal; in training too, where Detectron2's raises an error, so that the losses
        tell what became so.
        """
        logits, deltas = _float32(pred_objectness_logits), _float32(pred_anchor_deltas)
        if self.training:
            logits = [torch.nan_to_num(x, nan=_NO_PROPOSAL, posinf=_NO_PROPOSAL, neginf=_NO_PROPOSAL) for x in logits]
        return super().predict_proposals(anchors, logits, deltas, image_sizes)

    def _decode_proposals(self, anchors: list[Boxes], pred_anchor_deltas: list[Tensor]) -> list[Tensor]:
        proposals = super()._decode_proposals(anchors, pred_anchor_deltas)
        if self.training:  # boxes without an area are dropped
            proposals = [torch.where(x.isfinite().all(-1, keepdim=True), x, 0.0) for x in proposals]
        return proposals


def _checked_weight(weight: float) -> float:
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"MODEL.MTL.RPN.POSITIVE_WEIGHT is {weight}, expected a finite number above 0")
    return weight


def _float32(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.float() for tensor in tensors]


def _log_anchor_counts(labels: Tensor) -> None:
    """Put the numbers of positive and negative anchors per image where Detectron2's RPN puts them."""
    storage = get_event_storage()
    counts = torch.stack([(labels == 1).sum(), (labels == 0).sum()]).tolist()
    storage.put_scalar("rpn/num_pos_anchors", counts[0] / len(labels))
    storage.put_scalar("rpn/num_neg_anchors", counts[1] / len(labels))
