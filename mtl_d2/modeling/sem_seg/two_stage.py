"""Coarse to detail: a semantic head in two stages, the second of which may see the edges."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ..edge.build import EDGE_HEADS_REGISTRY
from ..edge.layers import conv3x3
from ..shared_names import EDGE_LOGITS, SEM_SEG_LOGITS, SEM_SEG_TOWER
from .fpn import MultiTaskSemSegFPNHead

_COARSE_LOGITS = "sem_seg_coarse_logits"
_KEY = "MODEL.MTL.SEM_SEG_HEAD.TWO_STAGE"


@SEM_SEG_HEADS_REGISTRY.register()
class TwoStageSemSegHead(MultiTaskSemSegFPNHead):
    """Semantic FPN makes the coarse prediction; two convolutions then add the detail. Both are supervised.

    Our reading of a back end that "makes the coarse prediction and then the detail", helped by edges: the second stage
    sees the map that the first one's predictor sees, the first one's probabilities and, if asked for, what the edge
    head says of each pixel of a cell (moved to channels, so that nothing of it is lost). It predicts r x r differences
    from the coarse logits a cell, r = common_stride / ``stride``, which are moved to pixels (sub-pixel convolution, Shi
    et al. 2016).

    Args:
        input_shape: of the features to use.
        num_classes: K.
        common_stride: of the first stage.
        norm: of all convolutions.
        detail_dims: channels of the second stage.
        stride: of the prediction, in input pixels; a divisor of ``common_stride``.
        edge_stride: of the edge logits, a divisor of ``common_stride``; None for no edge input.
        coarse_weight: of the first stage's loss, beside 1 of the second's.
        **kwargs: of :class:`MultiTaskSemSegFPNHead`.

    Raises:
        ValueError: a stride does not divide ``common_stride``, or the weight is negative.
    """

    loss_names = ("loss_sem_seg", "loss_sem_seg_coarse")

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dims: int,
        common_stride: int,
        norm: str = "GN",
        detail_dims: int = 64,
        stride: int = 2,
        edge_stride: int | None = None,
        coarse_weight: float = 0.4,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_shape,
            num_classes=num_classes,
            conv_dims=conv_dims,
            common_stride=common_stride,
            norm=norm,
            **kwargs,
        )
        for key, value in ((f"{_KEY}.STRIDE", stride), ("MODEL.MTL.EDGE_HEAD.STRIDE", edge_stride or 1)):
            if value < 1 or common_stride % value:
                raise ValueError(f"{key} is {value}: expected a divisor of MODEL.SEM_SEG_HEAD.COMMON_STRIDE")
        if not coarse_weight >= 0:
            raise ValueError(f"{_KEY}.COARSE_WEIGHT is {coarse_weight}: expected a number of at least 0")
        self.stride = stride
        self.coarse_weight = coarse_weight
        self.edge_cell = common_stride // edge_stride if edge_stride else 0
        self.detail = nn.Sequential(
            conv3x3(conv_dims + num_classes + self.edge_cell**2, detail_dims, norm),
            conv3x3(detail_dims, detail_dims, norm),
        )
        self.detail_predictor = Conv2d(detail_dims, num_classes * (common_stride // stride) ** 2, kernel_size=1)
        nn.init.normal_(self.detail_predictor.weight, std=0.01)
        nn.init.zeros_(self.detail_predictor.bias)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        options = cfg.MODEL.MTL.SEM_SEG_HEAD.TWO_STAGE
        edge_head = cfg.MODEL.MTL.EDGE_HEAD
        if options.EDGE_INPUT and SEM_SEG_TOWER in getattr(EDGE_HEADS_REGISTRY.get(edge_head.NAME), "reads", ()):
            raise ValueError(
                f"{_KEY}.EDGE_INPUT is True and MODEL.MTL.EDGE_HEAD.NAME is {edge_head.NAME!r}, so that the semantic "
                "and the edge head wait for each other: set EDGE_INPUT to False, or choose another edge head."
            )
        return super().from_config(cfg, input_shape) | {
            "detail_dims": options.CONVS_DIM,
            "stride": options.STRIDE,
            "edge_stride": edge_head.STRIDE if options.EDGE_INPUT else None,
            "coarse_weight": options.COARSE_WEIGHT,
        }

    @property
    def reads(self) -> tuple[str, ...]:
        return (EDGE_LOGITS,) if self.edge_cell else ()

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In training ``(None, losses)``, else logits (N, K, H, W) and {}.

        Args:
            features: the levels and, with edge input, EDGE_LOGITS.
            targets: (N, H, W), class ids and ``ignore_value``; in training.
        """
        made = features if SEM_SEG_LOGITS in features else self.shared_features(features)
        logits = _enlarge(made[SEM_SEG_LOGITS], self.stride)
        if not self.training:
            return logits, {}
        assert targets is not None, "training needs targets"
        coarse = self.criterion(_enlarge(made[_COARSE_LOGITS], self.common_stride), targets)
        return None, {
            "loss_sem_seg": self.criterion(logits, targets),
            "loss_sem_seg_coarse": coarse * self.coarse_weight,
        }

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, K, H / stride, W / stride) of the second stage."""
        return (features if SEM_SEG_LOGITS in features else self.shared_features(features))[SEM_SEG_LOGITS]

    def shared_features(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first stage's map and logits at ``common_stride``, and the second's logits at ``stride``."""
        tower = self.tower(features)
        coarse = self.predictor(tower)
        inputs = [tower, coarse.softmax(dim=1).to(tower.dtype)]
        if self.edge_cell:
            edges = F.pixel_unshuffle(features[EDGE_LOGITS], self.edge_cell)
            inputs.append(edges.sigmoid().to(tower.dtype))
        detail = self.detail_predictor(self.detail(torch.cat(inputs, dim=1)))
        ratio = self.common_stride // self.stride
        logits = _enlarge(coarse, ratio) + F.pixel_shuffle(detail, ratio)
        return {SEM_SEG_TOWER: tower, _COARSE_LOGITS: coarse, SEM_SEG_LOGITS: logits}


def _enlarge(logits: Tensor, factor: int) -> Tensor:
    """Bilinear, in float32."""
    if factor == 1:
        return logits.float()
    return F.interpolate(logits.float(), scale_factor=factor, mode="bilinear", align_corners=False)
