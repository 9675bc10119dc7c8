"""Hyper features: several levels aggregated into one map that proposals and detection share."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Features, Neck, register_neck
from .levels import choose_levels, max_pool, upsample

_KEY = "MODEL.MTL.NECK.HYPER_FEATURES"


@register_neck("hyper_features")
class HyperFeaturesNeck(Neck):
    """One map of compressed features of several levels, given back as the levels that all heads read.

    Kong et al. 2016, HyperNet: Towards Accurate Region Proposal Generation and Joint Object Detection, section 3.1:
    finer levels are max-pooled to a reference level's size, coarser ones upsampled; a 5x5 convolution compresses each
    to few channels (42), local response normalisation brings them to one scale, and they are concatenated.

    Our reading: coarser levels are upsampled bilinearly (there a deconvolution); a 1x1 convolution then gives the map
    the channels of the reference level, and levels finer than the reference are the map upsampled, coarser ones its
    maxima. With the reference at the finest level nothing is lost, at p3 the map costs a quarter, and dense heads see
    nothing finer than stride 8 (an edge head's image stem apart).

    Args:
        input_shape: of the backbone's features.
        reference: the level that the map has the size of.
        channels: of each level after compression.
        norm: "LRN", or a norm of Detectron2's; "" for none.

    Raises:
        ValueError: the backbone lacks a level.
    """

    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        reference: str = "p2",
        channels: int = 42,
        norm: str = "LRN",
    ) -> None:
        super().__init__(input_shape)
        self.levels = choose_levels(input_shape, (), _KEY)
        self.reference = reference
        (shape,) = choose_levels(input_shape, [reference], f"{_KEY}.REFERENCE").values()
        self.stride, self.out_channels = shape.stride, shape.channels
        self.compress = nn.ModuleDict()
        for name, level in self.levels.items():
            self.compress[name] = nn.Sequential(
                _conv(level.channels, channels, kernel_size=5), nn.ReLU(inplace=True), _norm(norm, channels)
            )
        self.fuse = _conv(channels * len(self.levels), self.out_channels, kernel_size=1)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        options = cfg.MODEL.MTL.NECK.HYPER_FEATURES
        return {
            "input_shape": input_shape,
            "reference": options.REFERENCE,
            "channels": options.CHANNELS,
            "norm": options.NORM,
        }

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=self.out_channels, stride=shape.stride) for name, shape in self.input_shape.items()
        }

    def aggregate(self, features: Features) -> Features:
        size = features[self.reference].shape[-2:]
        parts = [compress(self._resample(name, features[name], size)) for name, compress in self.compress.items()]
        hyper = F.relu(self.fuse(torch.cat(parts, dim=1)))
        return {
            name: max_pool(hyper, shape.stride // self.stride)
            if shape.stride > self.stride
            else upsample(hyper, features[name].shape[-2:])
            for name, shape in self.input_shape.items()
        }

    def _resample(self, name: str, feature: Tensor, size: Sequence[int]) -> Tensor:
        stride = self.levels[name].stride
        return max_pool(feature, self.stride // stride) if stride < self.stride else upsample(feature, size)


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> Conv2d:
    conv = Conv2d(in_channels, out_channels, kernel_size=kernel_size, padding=kernel_size // 2)
    weight_init.c2_msra_fill(conv)
    return conv


def _norm(norm: str, channels: int) -> nn.Module:
    if norm == "LRN":
        return nn.LocalResponseNorm(size=5)  # alpha 1e-4, beta 0.75, as Krizhevsky et al. 2012
    return get_norm(norm, channels) or nn.Identity()
