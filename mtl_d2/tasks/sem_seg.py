"""A semantic class for each pixel, by any head of Detectron2's SEM_SEG_HEADS_REGISTRY."""

from collections.abc import Mapping
from typing import Any, cast

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_sem_seg_head
from torch import Tensor, nn

from ..evaluation import SemSegEvaluator
from ..modeling.postprocessing import resize_dense
from .base import Features, TaskBatch, TaskBranch, register_task


@register_task
class SemSegBranch(TaskBranch):
    """Semantic segmentation.

    Args:
        sem_seg_head: Detectron2's interface ``(features, targets) -> logits, losses``, with ``ignore_value``, and
            ``loss_names`` where it has others than ``loss_sem_seg``. ``reads`` names what other branches must give
            it; one that others may read has ``gives`` and ``shared_features(features)``, and finds them in its
            features then.
    """

    name = "sem_seg"
    label_keys = ("sem_seg",)
    output_key = "sem_seg"
    metric = "sem_seg/mIoU"

    def __init__(self, sem_seg_head: nn.Module) -> None:
        self.sem_seg_head = sem_seg_head
        self.ignore_value = cast(int, sem_seg_head.ignore_value)

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> "SemSegBranch":
        return cls(build_sem_seg_head(cfg, input_shape))

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"sem_seg_head": self.sem_seg_head}

    @property
    def loss_names(self) -> tuple[str, ...]:
        return getattr(self.sem_seg_head, "loss_names", ("loss_sem_seg",))

    @property
    def gives(self) -> tuple[str, ...]:
        return getattr(self.sem_seg_head, "gives", ())

    @property
    def reads(self) -> tuple[str, ...]:
        return getattr(self.sem_seg_head, "reads", ())

    def shared_features(self, features: Features, images: Tensor) -> dict[str, Tensor]:
        return cast(Any, self.sem_seg_head).shared_features(features)

    def losses(self, features: Features, batch: TaskBatch) -> dict[str, Tensor]:
        targets = batch.dense_labels("sem_seg", self.ignore_value)
        return self.sem_seg_head(features, targets)[1]

    def inference(self, features: Features, batch: TaskBatch, outputs: Mapping[str, list]) -> list[Tensor]:
        return list(self.sem_seg_head(features, None)[0].float())

    def postprocess(self, output: Any, image_size: tuple[int, int], height: int, width: int) -> Tensor:
        return resize_dense(output, image_size, height, width)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None) -> SemSegEvaluator:
        return SemSegEvaluator(
            dataset_name,
            output_dir=output_dir,
            per_image=cfg.TEST.MTL.PER_IMAGE,
            boundary_width=cfg.TEST.MTL.BOUNDARY_WIDTH,
        )
