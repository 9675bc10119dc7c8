"""Norms for any number of channels."""

from collections.abc import Callable
from math import gcd

from torch import nn

Norm = str | Callable[[int], nn.Module]  # a name of Detectron2's, "" for none; or what makes one, from the channels
GROUPS = 32  # of Detectron2's "GN"


def fitting(norm: Norm) -> Norm:
    """The norm, with "GN" made to fit any number of channels: as many of Detectron2's 32 groups as divide it."""
    return group_norm if norm == "GN" else norm


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm (Wu and He, Group Normalization, ECCV 2018)."""
    return nn.GroupNorm(gcd(GROUPS, channels), channels)
