"""The classes that are in an image: labels of the image as a whole."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..evaluation import ClassificationEvaluator
from ..modeling.classification import build_classification_head
from .base import Features, TaskBatch, TaskBranch, register_task


@register_task
class ClassificationBranch(TaskBranch):
    """Image classification with any number of labels for an image.

    Args:
        classification_head: ``(features, image_sizes, targets) -> logits, losses``
            (:class:`mtl_d2.modeling.classification.ClassificationHead`).
    """

    name = "classification"
    label_keys = ("image_labels",)
    output_key = "image_labels"
    metric = "classification/mAP"

    def __init__(self, classification_head: nn.Module) -> None:
        self.classification_head = classification_head

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> "ClassificationBranch":
        return cls(build_classification_head(cfg, input_shape))

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"classification_head": self.classification_head}

    @property
    def loss_names(self) -> tuple[str, ...]:
        return ("loss_classification",)

    def losses(self, features: Features, batch: TaskBatch) -> dict[str, Tensor]:
        targets = torch.stack(batch.labels("image_labels"))
        return self.classification_head(features, batch.images.image_sizes, targets)[1]

    def inference(self, features: Features, batch: TaskBatch, outputs: Mapping[str, list]) -> list[Tensor]:
        return list(self.classification_head(features, batch.images.image_sizes, None)[0])

    def postprocess(self, output: Any, image_size: tuple[int, int], height: int, width: int) -> Tensor:
        """(K,) probabilities, each in [0, 1]: any number of classes may be in an image."""
        return output.sigmoid()

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None) -> ClassificationEvaluator:
        return ClassificationEvaluator(
            dataset_name, cfg.INPUT.MTL.IMAGE_LABELS, output_dir=output_dir, per_image=cfg.TEST.MTL.PER_IMAGE
        )
