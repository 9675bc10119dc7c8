"""Which images make up which batch: repeats, shares of datasets and tasks, quota, size buckets."""

from .build import build_mixture
from .mixture import Mixture
from .settings import check_settings
from .stream import ImageStream, Key

__all__ = ["ImageStream", "Key", "Mixture", "build_mixture", "check_settings"]
