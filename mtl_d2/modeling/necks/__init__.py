"""Necks: what stands between the backbone's features and the heads of a task."""

from .base import NECKS_REGISTRY, IdentityNeck, Neck, register_neck
from .build import build_neck
from .hyper_features import HyperFeaturesNeck
from .hypercolumn import HypercolumnNeck
from .hypernetwork import HypernetworkNeck
from .squeeze_excitation import SqueezeExcitationNeck

__all__ = [
    "NECKS_REGISTRY",
    "HyperFeaturesNeck",
    "HypercolumnNeck",
    "HypernetworkNeck",
    "IdentityNeck",
    "Neck",
    "SqueezeExcitationNeck",
    "build_neck",
    "register_neck",
]
