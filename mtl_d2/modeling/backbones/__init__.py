"""Backbones beside Detectron2's own, in its BACKBONE_REGISTRY."""

from .fpn import (
    FPNWithMaps,
    build_resnet_fpn_exact_levels_backbone,
    build_resnet_fpn_with_maps_backbone,
    build_vgg_fpn_backbone,
)
from .vgg import VGG, build_vgg_backbone

__all__ = [
    "VGG",
    "FPNWithMaps",
    "build_resnet_fpn_exact_levels_backbone",
    "build_resnet_fpn_with_maps_backbone",
    "build_vgg_backbone",
    "build_vgg_fpn_backbone",
]
