"""An edge head on what the semantic head has computed already."""

from collections.abc import Callable, Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ...losses import EDGE_LOSSES
from ...structures import downsample_edges
from ..shared_names import EDGE_LOGITS, SEM_SEG_TOWER
from .build import EDGE_HEADS_REGISTRY
from .fpn import IGNORE, _conv, _edge_loss


@EDGE_HEADS_REGISTRY.register()
class TowerEdgeHead(nn.Module):
    """Edges from the map that the semantic predictor reads: a 3x3 and a 1x1 convolution, then cells to pixels.

    Args:
        input_shape: of the tower's map.
        conv_dims: channels of the 3x3 convolution.
        norm: its normalisation.
        stride: of the prediction, in input pixels; a divisor of the tower's stride.
        detach: whether the edge loss leaves the tower as it is.
        loss: ``(logits, targets) -> scalar``, see :mod:`mtl_d2.losses.edge`.
        loss_weight: within the task.

    Raises:
        ValueError: ``stride`` does not divide the tower's.
    """

    ignore_value = IGNORE
    gives = (EDGE_LOGITS,)
    reads = (SEM_SEG_TOWER,)

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: int = 64,
        norm: str = "GN",
        stride: int = 1,
        detach: bool = False,
        loss: Callable[[Tensor, Tensor], Tensor] = EDGE_LOSSES["hed"],
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if stride < 1 or input_shape.stride % stride:
            raise ValueError(f"MODEL.MTL.EDGE_HEAD.STRIDE is {stride}: expected a divisor of {input_shape.stride}")
        self.cell = input_shape.stride
        self.stride = stride
        self.detach = detach
        self.loss = loss
        self.loss_weight = loss_weight
        self.conv = _conv(input_shape.channels, conv_dims, norm)
        self.predictor = Conv2d(conv_dims, (self.cell // stride) ** 2, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.MTL.EDGE_HEAD
        sem_seg_head = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)
        if not hasattr(sem_seg_head, "tower_shape"):
            raise ValueError(
                f"MODEL.MTL.EDGE_HEAD.NAME is {cls.__name__}, which reads the semantic tower, and "
                f"MODEL.SEM_SEG_HEAD.NAME {sem_seg_head.__name__!r} gives none: expected 'MultiTaskSemSegFPNHead', or "
                "another edge head."
            )
        if head.LOSS not in EDGE_LOSSES:
            raise ValueError(f"MODEL.MTL.EDGE_HEAD.LOSS is {head.LOSS!r}: expected one of {sorted(EDGE_LOSSES)}")
        return {
            "input_shape": sem_seg_head.tower_shape(cfg),
            "conv_dims": head.CONVS_DIM,
            "norm": head.NORM,
            "stride": head.STRIDE,
            "detach": head.TOWER.DETACH,
            "loss": _edge_loss(head.LOSS, head.POSITIVE_WEIGHT),
            "loss_weight": head.LOSS_WEIGHT,
        }

    def forward(
        self, features: Mapping[str, Tensor], images: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training ``(None, losses)``, else ``(logits, {})``; as :meth:`FPNEdgeHead.forward`."""
        logits = self.layers(features, images).float()
        if self.training:
            assert targets is not None, "training needs targets"
            targets = downsample_edges(targets, self.stride)
            return None, {"loss_edge": self.loss(logits.squeeze(1), targets) * self.loss_weight}
        if self.stride > 1:
            logits = F.interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)
        return logits, {}

    def layers(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (N, 1, H / stride, W / stride); those in ``features`` if they were made for another branch."""
        if EDGE_LOGITS in features:
            return features[EDGE_LOGITS]
        tower = features[SEM_SEG_TOWER]
        x = self.predictor(self.conv(tower.detach() if self.detach else tower))
        return F.pixel_shuffle(x, self.cell // self.stride)
