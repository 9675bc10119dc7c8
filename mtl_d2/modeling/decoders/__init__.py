"""Decoders: from maps at several strides to scores at one, for semantics and for edges; one per file."""

from .base import Decoder
from .build import DECODERS_REGISTRY, build_decoder, select_levels
from .deeplabv3 import DeepLabV3Decoder
from .deeplabv3plus import DeepLabV3PlusDecoder
from .fcn import FCNDecoder
from .fpn import FPNDecoder
from .pspnet import PSPNetDecoder
from .rspp import RSPPDecoder
from .segnet import SegNetDecoder
from .unet import UNetDecoder

__all__ = [
    "DECODERS_REGISTRY",
    "Decoder",
    "DeepLabV3Decoder",
    "DeepLabV3PlusDecoder",
    "FCNDecoder",
    "FPNDecoder",
    "PSPNetDecoder",
    "RSPPDecoder",
    "SegNetDecoder",
    "UNetDecoder",
    "build_decoder",
    "select_levels",
]
