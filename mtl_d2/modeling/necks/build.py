"""Necks by name, from a config."""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from .base import NECKS_REGISTRY, Neck


def build_neck(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> Neck:
    """The neck that ``MODEL.MTL.NECK.NAME`` names.

    Raises:
        ValueError: there is no such neck, or it does not fit the backbone.
    """
    name = cfg.MODEL.MTL.NECK.NAME
    if name not in NECKS_REGISTRY:
        known = sorted(known for known, _ in NECKS_REGISTRY)
        raise ValueError(f"MODEL.MTL.NECK.NAME is {name!r}: expected one of {known}")
    neck = NECKS_REGISTRY.get(name)
    return neck(**neck.from_config(cfg, input_shape))
