"""An edge head on what the semantic head has computed already."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor

from ...losses import EDGE_LOSSES
from ..shared_names import SEM_SEG_TOWER
from .base import EdgeHead
from .build import EDGE_HEADS_REGISTRY
from .criterion import EdgeLoss, build_edge_loss
from .layers import CellPredictor, conv3x3


@EDGE_HEADS_REGISTRY.register()
class TowerEdgeHead(EdgeHead):
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
        loss: EdgeLoss = EDGE_LOSSES["hed"],
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__({SEM_SEG_TOWER: input_shape}, stride=stride, loss=loss, loss_weight=loss_weight)
        self.detach = detach
        self.conv = conv3x3(input_shape.channels, conv_dims, norm)
        self.predictor = CellPredictor(conv_dims, self.cell // stride)

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
        return {
            "input_shape": sem_seg_head.tower_shape(cfg),
            "conv_dims": head.CONVS_DIM,
            "norm": head.NORM,
            "stride": head.STRIDE,
            "detach": head.TOWER.DETACH,
            "loss": build_edge_loss(head),
            "loss_weight": head.LOSS_WEIGHT,
        }

    def layers(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits (N, 1, H / stride, W / stride)."""
        tower = features[SEM_SEG_TOWER]
        return self.predictor(self.conv(tower.detach() if self.detach else tower))
