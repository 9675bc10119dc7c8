"""The probability of an edge at each pixel."""

from collections.abc import Mapping
from typing import Any, cast

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..evaluation import EdgeEvaluator, EdgeOptions
from ..modeling.edge import build_edge_head
from ..modeling.postprocessing import resize_dense
from ..modeling.shared_names import EDGE_LOGITS
from .base import Features, TaskBatch, TaskBranch, register_task


@register_task
class EdgeBranch(TaskBranch):
    """Edge detection.

    Args:
        edge_head: ``(features, images, targets) -> logits, losses`` (:class:`mtl_d2.modeling.edge.EdgeHead`), with
            ``ignore_value``, and ``loss_names`` where it has more than ``loss_edge``. ``reads`` names what other
            branches must give it; one that others may read has ``gives`` = (EDGE_LOGITS,) and ``layers(features,
            images)`` that makes them, and finds them in its features then.
    """

    name = "edge"
    label_keys = ("edge",)
    output_key = "edge"
    metric = "edge/ODS"

    def __init__(self, edge_head: nn.Module) -> None:
        self.edge_head = edge_head
        self.ignore_value = cast(int, edge_head.ignore_value)

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> "EdgeBranch":
        score_options(cfg)  # what cannot be scored is told before the training
        return cls(build_edge_head(cfg, input_shape))

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"edge_head": self.edge_head}

    @property
    def loss_names(self) -> tuple[str, ...]:
        return getattr(self.edge_head, "loss_names", ("loss_edge",))

    @property
    def gives(self) -> tuple[str, ...]:
        return getattr(self.edge_head, "gives", ())

    @property
    def reads(self) -> tuple[str, ...]:
        return getattr(self.edge_head, "reads", ())

    def shared_features(self, features: Features, images: Tensor) -> dict[str, Tensor]:
        return {EDGE_LOGITS: cast(Any, self.edge_head).layers(features, images)}

    def losses(self, features: Features, batch: TaskBatch) -> dict[str, Tensor]:
        targets = batch.dense_labels("edge", self.ignore_value)
        return self.edge_head(features, batch.images.tensor, targets)[1]

    def inference(self, features: Features, batch: TaskBatch, outputs: Mapping[str, list]) -> list[Tensor]:
        return list(self.edge_head(features, batch.images.tensor, None)[0])

    def postprocess(self, output: Any, image_size: tuple[int, int], height: int, width: int) -> Tensor:
        return resize_dense(output, image_size, height, width)[0].sigmoid()

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None) -> EdgeEvaluator:
        options = score_options(cfg)
        return EdgeEvaluator(dataset_name, output_dir=output_dir, options=options, per_image=cfg.TEST.MTL.PER_IMAGE)


def score_options(cfg: CfgNode) -> EdgeOptions:
    """How TEST.MTL.EDGE has edges scored.

    Raises:
        ValueError: a value is out of its range.
    """
    try:
        return EdgeOptions(**{key.lower(): value for key, value in cfg.TEST.MTL.EDGE.items()})
    except ValueError as error:
        raise ValueError(f"TEST.MTL.EDGE: {error}") from error
