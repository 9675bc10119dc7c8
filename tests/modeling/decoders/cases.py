"""The decoders with features that each can read."""

from collections.abc import Mapping

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor

from mtl_d2.modeling.backbones import VGG
from mtl_d2.modeling.decoders import DECODERS_REGISTRY, Decoder

CLASSES = 3
INDICES = tuple(f"pool{i}_indices" for i in (4, 3, 2, 1))
LEVELS = {
    "FPNDecoder": ("s4", "s8", "s16"),
    "FCNDecoder": ("s4", "s8", "s16"),
    "SegNetDecoder": ("s16", *INDICES),
    "UNetDecoder": ("s1", "s2", "s4", "s8", "s16"),
    "PSPNetDecoder": ("s8", "s16"),
    "DeepLabV3Decoder": ("s16",),
    "DeepLabV3PlusDecoder": ("s4", "s16"),
    "RSPPDecoder": ("s16",),
}
OPTIONS: dict[str, dict] = {"FCNDecoder": {"fc_dim": 16, "fc_kernel": 3}, "RSPPDecoder": {"conv_dims": 32}}


def trunk() -> VGG:
    names = ("s1", "s2", "s4", "s8", "s16", *INDICES)
    return VGG(depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), out_features=names)


def shapes_of(*levels: str) -> dict[str, ShapeSpec]:
    shapes = trunk().output_shape()
    return {level: shapes[level] for level in levels}


def make_decoder(name: str, *levels: str, **options) -> Decoder:
    """A narrow decoder of the trunk's levels."""
    torch.manual_seed(1)
    shapes = shapes_of(*(levels or LEVELS[name]))
    sizes = {"out_channels": CLASSES, "conv_dims": 8, "norm": "BN"}
    return DECODERS_REGISTRY.get(name)(shapes, **{**sizes, **OPTIONS.get(name, {}), **options})


def make_features(n: int = 2, height: int = 64, width: int = 96) -> Mapping[str, Tensor]:
    """Of random images; a size that does not divide is rounded down at every pooling."""
    torch.manual_seed(0)
    with torch.no_grad():
        return trunk()(torch.randn(n, 3, height, width))
