"""Boxes and masks of instances, by Detectron2's RPN and ROI heads."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_proposal_generator, build_roi_heads
from detectron2.structures import Instances
from torch import Tensor, nn

from ..evaluation import InstanceEvaluator
from ..modeling.crowds import set_crowds
from ..modeling.postprocessing import resize_instances
from .base import Features, TaskBatch, TaskBranch, register_task


@register_task
class InstanceBranch(TaskBranch):
    """Faster R-CNN (Ren et al. 2015) or, with masks, Mask R-CNN (He et al. 2017) on the shared features.

    Args:
        proposal_generator: Detectron2's interface ``(images, features, gt_instances) -> proposals, losses``.
        roi_heads: Detectron2's interface ``(images, features, proposals, gt_instances) -> instances, losses``.
        mask_on: whether ``roi_heads`` predicts masks.
    """

    name = "instance"
    label_keys = ("instances",)
    output_key = "instances"

    def __init__(self, proposal_generator: nn.Module, roi_heads: nn.Module, *, mask_on: bool = True) -> None:
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.mask_on = mask_on
        self.metric = "segm/AP" if mask_on else "bbox/AP"

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> "InstanceBranch":
        return cls(
            build_proposal_generator(cfg, input_shape),
            build_roi_heads(cfg, input_shape),
            mask_on=cfg.MODEL.MASK_ON,
        )

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"proposal_generator": self.proposal_generator, "roi_heads": self.roi_heads}

    @property
    def owned_modules(self) -> dict[str, nn.Module]:
        """Without the keypoint head, which has its place in Detectron2's ROI heads and a branch of its own."""
        if not hasattr(self.roi_heads, "keypoint_head"):
            return self.modules
        parts = {f"roi_heads.{name}": part for name, part in self.roi_heads.named_children()}
        del parts["roi_heads.keypoint_head"]
        return {"proposal_generator": self.proposal_generator, **parts}

    @property
    def loss_names(self) -> tuple[str, ...]:
        masks = ("loss_mask",) if self.mask_on else ()
        return ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", *masks)

    def term_labels(self, batch: TaskBatch) -> dict[str, bool]:
        """Boxes without masks are a label too, for all losses but the masks'."""
        has_masks = any("instances" in x and x["instances"].has("gt_masks") for x in batch.inputs)
        return {"loss_mask": has_masks} if self.mask_on else {}

    def losses(self, features: Features, batch: TaskBatch) -> dict[str, Tensor]:
        gt_instances = batch.labels("instances")
        for instances, x in zip(gt_instances, batch.inputs, strict=True):
            set_crowds(instances, x.get("crowd_boxes"))
        proposals, losses = self.proposal_generator(batch.images, features, gt_instances)
        _, detector_losses = self.roi_heads(batch.images, features, proposals, gt_instances)
        return {**losses, **detector_losses}

    def inference(self, features: Features, batch: TaskBatch, outputs: Mapping[str, list]) -> list[Instances]:
        proposals, _ = self.proposal_generator(batch.images, features, None)
        instances, _ = self.roi_heads(batch.images, features, proposals, None)
        return instances

    def postprocess(self, output: Any, image_size: tuple[int, int], height: int, width: int) -> Instances:
        return resize_instances(output, height, width)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None) -> InstanceEvaluator:
        return InstanceEvaluator(
            dataset_name,
            output_dir=output_dir,
            per_image=cfg.TEST.MTL.PER_IMAGE,
            boundary_width=cfg.TEST.MTL.BOUNDARY_WIDTH,
        )
