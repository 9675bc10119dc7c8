"""What all edge heads have: one forward, losses at the prediction's stride, and the keys that they read."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...losses import EDGE_LOSSES
from ...structures import downsample_edges
from ..decoders.resize import size_of, upsample
from ..shared_names import EDGE_LOGITS
from .criterion import EdgeLoss, build_edge_loss

IGNORE = 255


class EdgeHead(nn.Module, ABC):
    """Logits of an edge at each pixel, from features of several strides and the image.

    Args:
        input_shape: of the features to use.
        stride: of the prediction, in input pixels; a divisor of the finest level's stride.
        loss: ``(logits, targets) -> scalar``, see :mod:`mtl_d2.losses.edge`.
        loss_weight: within the task.

    Attributes:
        cell: the finest level's stride.
        ignore_value: of the targets.

    Raises:
        ValueError: ``stride`` does not divide the finest level's.
    """

    ignore_value = IGNORE
    gives: tuple[str, ...] = (EDGE_LOGITS,)

    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        stride: int,
        loss: EdgeLoss = EDGE_LOSSES["hed"],
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.cell = min(shape.stride for shape in input_shape.values())
        if stride < 1 or self.cell % stride:
            raise ValueError(f"MODEL.MTL.EDGE_HEAD.STRIDE is {stride}: expected a divisor of {self.cell}")
        self.stride = stride
        self.loss = loss
        self.loss_weight = loss_weight

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The keys of :meth:`losses`."""
        return ("loss_edge",)

    def forward(
        self, features: Mapping[str, Tensor], images: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training ``(None, losses)``, else ``(logits, {})``.

        Args:
            features: ``{level: (N, C, H / s, W / s)}``.
            images: (N, 3, H, W), normalised and padded; H and W are multiples of the finest level's stride.
            targets: (N, H, W) in {0, 1, 255}, 255 for ignored pixels; in training.

        Returns:
            logits (N, 1, H, W) in float32: bilinear to the input's resolution if predicted at another stride.
        """
        if self.training:
            assert targets is not None, "training needs targets"
            return None, self.losses(features, images, targets)
        return upsample(self.logits(features, images).float(), self.stride, size_of(images)), {}

    def logits(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Those of :meth:`layers`, or in ``features``, if they were made for another branch."""
        return features[EDGE_LOGITS] if EDGE_LOGITS in features else self.layers(features, images)

    @abstractmethod
    def layers(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (N, 1, H / stride, W / stride), from what :meth:`forward` takes."""

    def losses(self, features: Mapping[str, Tensor], images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``{name: scalar}`` of what :meth:`forward` takes."""
        logits = self.logits(features, images)
        return {"loss_edge": self.loss_at_stride(logits, downsample_edges(targets, self.stride))}

    def loss_at_stride(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The weighted loss of logits (N, 1, h, w) against targets (N, h, w), both at the prediction's stride."""
        return self.loss(logits.float().squeeze(1), targets) * self.loss_weight


def edge_head_arguments(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
    """What every edge head takes from MODEL.MTL.EDGE_HEAD: input_shape, norm, stride, stem_dim, loss and its weight.

    Raises:
        ValueError: a key has a value that does not fit; the message names it.
    """
    head = cfg.MODEL.MTL.EDGE_HEAD
    missing = [name for name in head.IN_FEATURES if name not in input_shape]
    if missing or not head.IN_FEATURES:
        raise ValueError(
            f"MODEL.MTL.EDGE_HEAD.IN_FEATURES asks for {missing or 'no feature'}: the backbone gives "
            f"{sorted(input_shape)}"
        )
    if head.STEM_DIM < 0:
        raise ValueError(f"MODEL.MTL.EDGE_HEAD.STEM_DIM is {head.STEM_DIM}: expected 0, for no stem, or more")
    return {
        "input_shape": {name: input_shape[name] for name in head.IN_FEATURES},
        "norm": head.NORM,
        "stride": head.STRIDE,
        "stem_dim": head.STEM_DIM,
        "loss": build_edge_loss(head),
        "loss_weight": head.LOSS_WEIGHT,
    }
