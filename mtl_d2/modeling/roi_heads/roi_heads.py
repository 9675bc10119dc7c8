"""Detectron2's ROI heads for networks whose labels are partial and whose trunk may run in half precision."""

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor
from torchvision.ops import nms

from ..crowds import in_crowd
from .fast_rcnn import MultiTaskFastRCNNOutputLayers


@dataclass(frozen=True)
class HardRegions:
    """Online hard example mining: of the labelled regions those with the largest loss, instead of a random sample.

    "Training Region-based Object Detectors with Online Hard Example Mining" (Shrivastava et al. 2016), section 4. There
    is no fraction of positives, and how many regions an image has in the loss is the heads' `batch_size_per_image`.

    Attributes:
        nms_thresh: of regions whose boxes overlap by more than this IoU only the hardest may be kept, for their losses
            are one loss counted twice; in (0, 1], 1 for no such rule.

    Raises:
        ValueError: `nms_thresh` is out of its range.
    """

    nms_thresh: float = 0.7

    def __post_init__(self) -> None:
        if not 0 < self.nms_thresh <= 1:
            raise ValueError(f"MODEL.MTL.ROI_HEADS.OHEM.NMS_THRESH is {self.nms_thresh}, expected an IoU in (0, 1]")

    def __call__(self, proposals: list[Instances], losses: Tensor, count: int) -> list[Instances]:
        """The hardest `count` regions of each image, or all where it has no more.

        Args:
            proposals: R regions of all images, with `proposal_boxes`.
            losses: (R,).
            count: of regions per image.
        """
        by_image = losses.split([len(p) for p in proposals])
        kept = [nms(p.proposal_boxes.tensor, x, self.nms_thresh) for p, x in zip(proposals, by_image, strict=True)]
        return [p[indices[:count]] for p, indices in zip(proposals, kept, strict=True)]


@ROI_HEADS_REGISTRY.register()
class MultiTaskROIHeads(StandardROIHeads):
    """StandardROIHeads with MultiTaskFastRCNNOutputLayers, float32 features, and masks that may be absent.

    Images whose ground truth has boxes but no `gt_masks` train the box head alone: the mask loss equals that
    of the other images. Every loss key is there, and attached to the graph, without a proposal, a box or a
    mask too. Background regions in a crowd (:func:`mtl_d2.modeling.crowds.set_crowds`) are left out.
    """

    @configurable
    def __init__(self, *, hard_regions: HardRegions | None = None, **kwargs: Any) -> None:
        """
        Args:
            hard_regions: which regions train the heads; None for a random sample of `batch_size_per_image` with at most
                `positive_fraction` foreground, as in Detectron2.
            kwargs: those of StandardROIHeads.
        """
        super().__init__(**kwargs)
        self.hard_regions = hard_regions

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        ohem = cfg.MODEL.MTL.ROI_HEADS.OHEM
        return {
            **super().from_config(cfg, input_shape),
            "hard_regions": HardRegions(ohem.NMS_THRESH) if ohem.ENABLED else None,
        }

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        parts = super()._init_box_head(cfg, input_shape)
        parts["box_predictor"] = MultiTaskFastRCNNOutputLayers(cfg, parts["box_head"].output_shape)
        return parts

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See StandardROIHeads.forward."""
        features = _float32(features)
        if not self.training or self.hard_regions is None:
            return super().forward(images, features, proposals, targets)
        assert targets is not None, "training needs targets"
        regions = self.label_and_sample_proposals(proposals, targets)
        regions = self.hard_regions(regions, self._region_losses(features, regions), self.batch_size_per_image)
        _log_region_counts(regions, self.num_classes)
        losses = self._forward_box(features, regions)
        losses.update(self._forward_mask(features, regions))
        losses.update(self._forward_keypoint(features, regions))
        return regions, losses

    @torch.no_grad()
    def _region_losses(self, features: dict[str, Tensor], regions: list[Instances]) -> Tensor:
        """(R,) of all regions; the head's running statistics stay as they are."""
        modes = {module: module.training for module in self.box_head.modules()}  # a frozen head's norms have another
        self.box_head.eval()
        try:
            x = self.box_pooler([features[f] for f in self.box_in_features], [r.proposal_boxes for r in regions])
            return self.box_predictor.region_losses(self.box_predictor(self.box_head(x)), regions)
        finally:
            for module, mode in modes.items():
                module.training = mode
            torch.clear_autocast_cache()  # older torch would train with the casts from here, which have no gradient

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See ROIHeads._sample_proposals; all that have a label where the hard ones are chosen later."""
        if self.hard_regions is None:
            return super()._sample_proposals(matched_idxs, matched_labels, gt_classes)
        classes = torch.full_like(matched_idxs, self.num_classes)
        if len(gt_classes):
            classes = torch.where(matched_labels == 1, gt_classes[matched_idxs], classes)
        (labelled,) = (matched_labels != -1).nonzero(as_tuple=True)
        return labelled, classes[labelled]

    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """See ROIHeads.label_and_sample_proposals; the places of the regions in crowds are not sampled anew."""
        sampled = super().label_and_sample_proposals(proposals, targets)
        return [_without_crowded_background(s, t, self.num_classes) for s, t in zip(sampled, targets, strict=True)]

    def forward_with_given_boxes(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """See StandardROIHeads.forward_with_given_boxes."""
        return super().forward_with_given_boxes(_float32(features), instances)

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        if not self.mask_on:
            return super()._forward_mask(features, instances)
        if self.training:
            # No region of the image, rather than no image: the pooler wants one list of boxes per image.
            return super()._forward_mask(features, [i if i.has("gt_masks") else i[:0] for i in instances])
        instances = super()._forward_mask(features, instances)
        for instances_per_image in instances:
            # Pasting interpolates the probabilities at pixel precision, for which bf16 is too coarse.
            instances_per_image.pred_masks = instances_per_image.pred_masks.float()
        return instances


def _without_crowded_background(sampled: Instances, target: Instances, num_classes: int) -> Instances:
    crowded = (sampled.gt_classes == num_classes) & in_crowd(sampled.proposal_boxes, target)
    return sampled[~crowded] if crowded.any() else sampled


def _log_region_counts(regions: list[Instances], num_classes: int) -> None:
    """Put the numbers of foreground and background regions per image where Detectron2's ROI heads put them."""
    background = torch.cat([r.gt_classes for r in regions]) == num_classes
    storage = get_event_storage()
    storage.put_scalar("roi_head/num_fg_samples", int((~background).sum()) / len(regions))
    storage.put_scalar("roi_head/num_bg_samples", int(background.sum()) / len(regions))


def _float32(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Features for the poolers: RoIAlign on the CPU has no half precision."""
    return {name: feature.float() for name, feature in features.items()}
