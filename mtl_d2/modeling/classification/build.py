"""Heads for labels of whole images by name, from a config."""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

CLASSIFICATION_HEADS_REGISTRY = Registry("CLASSIFICATION_HEADS")
CLASSIFICATION_HEADS_REGISTRY.__doc__ = "Heads ``(cfg, input_shape)`` for ``MODEL.MTL.CLASSIFICATION_HEAD.NAME``."


def build_classification_head(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """The head that ``MODEL.MTL.CLASSIFICATION_HEAD.NAME`` names.

    Raises:
        ValueError: there is none of that name.
    """
    name = cfg.MODEL.MTL.CLASSIFICATION_HEAD.NAME
    if name not in CLASSIFICATION_HEADS_REGISTRY:
        known = sorted(known for known, _ in CLASSIFICATION_HEADS_REGISTRY)
        raise ValueError(f"MODEL.MTL.CLASSIFICATION_HEAD.NAME is {name!r}: expected one of {known}")
    return CLASSIFICATION_HEADS_REGISTRY.get(name)(cfg, input_shape)
