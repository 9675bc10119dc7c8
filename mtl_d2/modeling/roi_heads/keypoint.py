"""Keypoints of regions: Detectron2's head, on regions that are sampled for it alone."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROIHeads, StandardROIHeads, select_foreground_proposals
from detectron2.modeling.roi_heads.keypoint_head import (
    BaseKeypointRCNNHead,
    keypoint_rcnn_inference,
    keypoint_rcnn_loss,
)
from detectron2.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor, nn


def build_keypoint_head(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
    """Detectron2's parts of MODEL.ROI_KEYPOINT_HEAD, whatever MODEL.KEYPOINT_ON says.

    Returns:
        "keypoint_head", a BaseKeypointRCNNHead; "keypoint_pooler" and "keypoint_in_features".

    Raises:
        ValueError: POOLER_TYPE is empty, or the head is no BaseKeypointRCNNHead.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.KEYPOINT_ON = True
    parts = StandardROIHeads._init_keypoint_head(cfg, input_shape)
    if parts["keypoint_pooler"] is None:
        raise ValueError("MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE is empty: expected one such as 'ROIAlignV2'.")
    if not isinstance(parts["keypoint_head"], BaseKeypointRCNNHead):
        raise ValueError(
            f"MODEL.ROI_KEYPOINT_HEAD.NAME: {cfg.MODEL.ROI_KEYPOINT_HEAD.NAME} is no BaseKeypointRCNNHead, of "
            "which the logits by 'layers' are taken; derive it from that."
        )
    return parts


@torch.no_grad()
def sample_keypoint_regions(
    roi_heads: ROIHeads, proposals: list[Instances], targets: list[Instances]
) -> list[Instances]:
    """The regions of each image on which Detectron2 trains a keypoint head, drawn with torch's random numbers.

    Ground-truth boxes and proposals are labelled and sampled as for the box head (MODEL.ROI_HEADS); of the foreground
    those stay that have a visible keypoint inside. With hard example mining, where that sample is all regions, the
    foreground is a random one of the same size as without.

    Args:
        roi_heads: labels and samples.
        proposals: per image, with ``proposal_boxes``.
        targets: per image, with ``gt_boxes``, ``gt_classes`` and ``gt_keypoints``; without other fields.

    Returns:
        per image, with ``proposal_boxes`` and, where there is a region, ``gt_keypoints``.
    """
    with EventStorage():  # the counts of the box head's regions are logged where it samples them
        regions = roi_heads.label_and_sample_proposals(proposals, targets)
        regions, _ = select_foreground_proposals(regions, roi_heads.num_classes)
        most = int(roi_heads.batch_size_per_image * roi_heads.positive_fraction)
        regions = [
            r if len(r) <= most else r[torch.randperm(len(r), device=r.gt_classes.device)[:most]] for r in regions
        ]
        if any(len(r) for r in regions):
            regions = select_proposals_with_visible_keypoints(regions)
    get_event_storage().put_scalar("keypoint_head/num_fg_samples", sum(map(len, regions)) / max(len(regions), 1))
    return regions


def keypoint_losses(
    head: BaseKeypointRCNNHead, pooler: nn.Module, features: list[Tensor], regions: list[Instances]
) -> dict[str, Tensor]:
    """``{"loss_keypoint": scalar}`` of Detectron2's ``keypoint_rcnn_loss``: cross-entropy over a heatmap's cells.

    The sum over visible keypoints is divided by their number, or by images * keypoints * regions per image
    (MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS). Without a region it is a zero with a gradient.

    Args:
        features: per level, (N, C, h, w).
        regions: of :func:`sample_keypoint_regions`.
    """
    if not any(len(r) for r in regions):
        # Over no element: a diverged feature times 0 would be NaN.
        zeros = [p.flatten()[:0].sum() for p in (*head.parameters(), *features)]
        return {"loss_keypoint": torch.stack([zero.float() for zero in zeros]).sum()}
    boxes = [r.proposal_boxes for r in regions]
    normalizer = None if head.loss_normalizer == "visible" else len(regions) * head.loss_normalizer
    loss = keypoint_rcnn_loss(_logits(head, pooler, features, boxes), regions, normalizer)
    return {"loss_keypoint": loss * head.loss_weight}


def predict_keypoints(
    head: BaseKeypointRCNNHead, pooler: nn.Module, features: list[Tensor], detections: list[Instances]
) -> list[Instances]:
    """The detections, with boxes of their own and ``pred_keypoints`` (R, K, 3): x, y in pixels and a score above 0.

    The score is the heatmap's softmax at its maximum, as in Detectron2; the heatmaps themselves are not kept.
    """
    results = [Instances(d.image_size, **_with_own_boxes(d)) for d in detections]
    keypoint_rcnn_inference(_logits(head, pooler, features, [r.pred_boxes for r in results]), results)
    for result in results:
        result.remove("pred_keypoint_heatmaps")
    return results


def _logits(head: BaseKeypointRCNNHead, pooler: nn.Module, features: list[Tensor], boxes: list[Boxes]) -> Tensor:
    """(R, K, S, S), in float32: bf16 has 8 bits for a coordinate. Contiguous, as Detectron2 expects it."""
    return head.layers(pooler([f.float() for f in features], boxes)).float().contiguous()


def _with_own_boxes(instances: Instances) -> dict[str, Any]:
    """Its fields; postprocessing scales boxes in place, and those are another task's raw output."""
    boxes: Boxes = instances.pred_boxes
    return {**instances.get_fields(), "pred_boxes": boxes.clone()}
