"""Detectron2's ROI heads for networks whose labels are partial and whose trunk may run in half precision."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.structures import ImageList, Instances
from torch import Tensor

from ..crowds import in_crowd
from .fast_rcnn import MultiTaskFastRCNNOutputLayers


@ROI_HEADS_REGISTRY.register()
class MultiTaskROIHeads(StandardROIHeads):
    """StandardROIHeads with MultiTaskFastRCNNOutputLayers, float32 features, and masks that may be absent.

    Images whose ground truth has boxes but no `gt_masks` train the box head alone: the mask loss equals that
    of the other images. Every loss key is there, and attached to the graph, without a proposal, a box or a
    mask too. Background regions in a crowd (:func:`mtl_d2.modeling.crowds.set_crowds`) are left out.
    """

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
        return super().forward(images, _float32(features), proposals, targets)

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


def _float32(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Features for the poolers: RoIAlign on the CPU has no half precision."""
    return {name: feature.float() for name, feature in features.items()}
