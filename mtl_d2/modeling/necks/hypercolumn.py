"""Hypercolumns: every pixel described by all levels at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Features, Neck, register_neck
from .levels import choose_levels, mean_pool, upsample

_KEY = "MODEL.MTL.NECK.HYPERCOLUMN"


@register_neck("hypercolumn")
class HypercolumnNeck(Neck):
    """A descriptor of each cell of the finest level, from all chosen levels.

    Hariharan et al. 2015, Hypercolumns for Object Segmentation and Fine-grained Localization: the descriptor of a
    pixel is the concatenation of the upsampled layers, and what reads it begins with a 1x1 convolution. Bilinear
    upsampling acts on each channel alone, a 1x1 convolution on each pixel alone, so that the two commute (their
    section 4.2): a level is projected at its own size, and what is upsampled and summed is the projection. With L
    levels of C channels and D of the descriptor, n cells in the finest level, a training step so keeps and moves maps
    of D n instead of L C n values.

    Our reading of how heads use it: the descriptor (normalised, through a ReLU) is the finest level; every other level
    is its mean over the cells that it covers. So semantic and edge heads may read the finest level alone
    (``IN_FEATURES: [p2]``), and RPN and RoI heads find the levels that they know.

    Args:
        input_shape: of the backbone's features.
        in_features: levels that describe a pixel, the finest among them; () for all.
        channels: D; 0 for as many as the finest level has.
        norm: of the descriptor; "" for none.

    Raises:
        ValueError: the backbone lacks a level, or the finest one is not chosen.
    """

    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        in_features: Sequence[str] = (),
        channels: int = 0,
        norm: str = "GN",
    ) -> None:
        super().__init__(input_shape)
        self.levels = choose_levels(input_shape, in_features, f"{_KEY}.IN_FEATURES")
        self.cell = min(shape.stride for shape in input_shape.values())
        self.finest = next(iter(self.levels))
        if self.levels[self.finest].stride != self.cell:
            raise ValueError(
                f"{_KEY}.IN_FEATURES is {list(in_features)}: expected the finest level of {sorted(input_shape)} among "
                f"them, the one of stride {self.cell}"
            )
        self.channels = channels or self.levels[self.finest].channels
        self.projections = nn.ModuleDict()
        for name, shape in self.levels.items():
            # One bias is enough: that of the finest level, or the norm's.
            bias = name == self.finest and not norm
            self.projections[name] = nn.Conv2d(shape.channels, self.channels, kernel_size=1, bias=bias)
            weight_init.c2_msra_fill(self.projections[name])
        self.norm = get_norm(norm, self.channels)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        options = cfg.MODEL.MTL.NECK.HYPERCOLUMN
        return {
            "input_shape": input_shape,
            "in_features": options.IN_FEATURES,
            "channels": options.CHANNELS,
            "norm": options.NORM,
        }

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=self.channels, stride=shape.stride) for name, shape in self.input_shape.items()
        }

    def aggregate(self, features: Features) -> Features:
        descriptor = self.project(features)
        descriptor = F.relu(descriptor if self.norm is None else self.norm(descriptor))
        return {name: mean_pool(descriptor, shape.stride // self.cell) for name, shape in self.input_shape.items()}

    def project(self, features: Features) -> Tensor:
        """The 1x1 convolution of all chosen levels together, (N, D, H / cell, W / cell)."""
        size = features[self.finest].shape[-2:]
        total = self.projections[self.finest](features[self.finest])
        for name in list(self.levels)[1:]:
            total = total + upsample(self.projections[name](features[name]), size)
        return total
