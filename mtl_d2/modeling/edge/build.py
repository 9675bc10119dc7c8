"""Edge heads by name, from a config."""

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

EDGE_HEADS_REGISTRY = Registry("EDGE_HEADS")
EDGE_HEADS_REGISTRY.__doc__ = "Edge heads ``(cfg, input_shape)`` for ``MODEL.MTL.EDGE_HEAD.NAME``."


def build_edge_head(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> nn.Module:
    """The edge head that ``MODEL.MTL.EDGE_HEAD.NAME`` names.

    Raises:
        ValueError: there is none of that name, or one of its keys does not fit.
    """
    name = cfg.MODEL.MTL.EDGE_HEAD.NAME
    if name not in EDGE_HEADS_REGISTRY:
        known = sorted(known for known, _ in EDGE_HEADS_REGISTRY)
        raise ValueError(f"MODEL.MTL.EDGE_HEAD.NAME is {name!r}: expected one of {known}")
    return EDGE_HEADS_REGISTRY.get(name)(cfg, input_shape)
