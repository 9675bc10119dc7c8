"""Keypoints of the instances, by Detectron2's keypoint head."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import BaseKeypointRCNNHead
from detectron2.structures import Instances
from torch import Tensor, nn

from ..evaluation import KeypointEvaluator
from ..modeling.crowds import set_crowds
from ..modeling.postprocessing import resize_instances
from ..modeling.roi_heads import build_keypoint_head, keypoint_losses, predict_keypoints, sample_keypoint_regions
from .base import Features, TaskBatch, TaskBranch, register_task
from .instance import InstanceBranch


@register_task
class KeypointBranch(TaskBranch):
    """Keypoint R-CNN (He et al. 2017, Mask R-CNN, section 5) on the instance branch's proposals and detections.

    The instance branch owns the losses of proposals and boxes. In training this one proposes and samples regions of
    its own, without gradient, so that it needs nothing of the other's step: that costs a second forward of the RPN's
    head and a second NMS, and in a step the two heads may see different regions of an image. Its random numbers are
    drawn apart: with or without keypoints, every other task has the same losses to the bit.

    Differs from Detectron2: images without keypoints take no part, instead of being left out of the dataset
    (MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE is not read).

    Args:
        keypoint_head: its ``layers`` give the logits; it gets its place in the ROI heads, as in Detectron2.
        keypoint_pooler: ``(features, boxes) -> (R, C, h, w)``.
        in_features: names of the levels that are pooled.
    """

    name = "keypoint"
    label_keys = ("instances", "keypoints")
    output_key = "instances"
    metric = "keypoints/AP"
    depends_on = ("instance",)

    def __init__(
        self, keypoint_head: BaseKeypointRCNNHead, keypoint_pooler: nn.Module, in_features: tuple[str, ...]
    ) -> None:
        self.keypoint_head = keypoint_head
        self.keypoint_pooler = keypoint_pooler
        self.in_features = in_features

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> "KeypointBranch":
        parts = build_keypoint_head(cfg, input_shape)
        return cls(parts["keypoint_head"], parts["keypoint_pooler"], tuple(parts["keypoint_in_features"]))

    def connect(self, branches: Mapping[str, TaskBranch]) -> None:
        """Take RPN and ROI heads of the instance branch.

        Raises:
            ValueError: proposals cannot be had from them without losses.
        """
        self.instance = cast(InstanceBranch, branches["instance"])
        for key, module, needed in (
            ("PROPOSAL_GENERATOR", self.instance.proposal_generator, "propose"),
            ("ROI_HEADS", self.instance.roi_heads, "label_and_sample_proposals"),
        ):
            if not hasattr(module, needed):
                raise ValueError(
                    f"MODEL.{key}.NAME: {type(module).__name__} has no {needed!r}, which the task 'keypoint' needs; "
                    "set MultiTaskRPN and MultiTaskROIHeads, or remove the task from MODEL.MTL.TASKS."
                )

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"roi_heads.keypoint_head": self.keypoint_head}

    @property
    def loss_names(self) -> tuple[str, ...]:
        return ("loss_keypoint",)

    def losses(self, features: Features, batch: TaskBatch) -> dict[str, Tensor]:
        regions = self.sample_regions(features, batch)
        return keypoint_losses(self.keypoint_head, self.keypoint_pooler, self._levels(features), regions)

    def sample_regions(self, features: Features, batch: TaskBatch) -> list[Instances]:
        """See :func:`sample_keypoint_regions`; the global random state stays as it is."""
        device = batch.images.tensor.device
        targets = [
            Instances(x.image_size, gt_boxes=x.gt_boxes, gt_classes=x.gt_classes, gt_keypoints=keypoints)
            for x, keypoints in zip(batch.labels("instances"), batch.labels("keypoints"), strict=True)
        ]
        for target, x in zip(targets, batch.inputs, strict=True):
            set_crowds(target, x.get("crowd_boxes"))
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            proposals = cast(Any, self.instance.proposal_generator).propose(batch.images, features)
            return sample_keypoint_regions(cast(Any, self.instance.roi_heads), proposals, targets)

    def inference(self, features: Features, batch: TaskBatch, outputs: Mapping[str, list]) -> list[Instances]:
        return predict_keypoints(self.keypoint_head, self.keypoint_pooler, self._levels(features), outputs["instance"])

    def _levels(self, features: Features) -> list[Tensor]:
        return [features[name] for name in self.in_features]

    def postprocess(self, output: Any, image_size: tuple[int, int], height: int, width: int) -> Instances:
        return resize_instances(output, height, width)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None) -> KeypointEvaluator:
        return KeypointEvaluator(
            dataset_name,
            sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
            output_dir=output_dir,
            per_image=cfg.TEST.MTL.PER_IMAGE,
        )
