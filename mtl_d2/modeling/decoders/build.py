"""Decoders by name, from a config."""

from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from ..norms import Norm
from .base import Decoder, Shapes, describe

DECODERS_REGISTRY = Registry("DECODERS")
DECODERS_REGISTRY.__doc__ = "Decoders, for ``DECODER`` of MODEL.MTL.SEM_SEG_HEAD and MODEL.MTL.EDGE_HEAD."


def build_decoder(
    cfg: CfgNode,
    input_shape: Shapes,
    *,
    name: str,
    key: str,
    out_channels: int | Callable[[int], int],
    conv_dims: int,
    norm: Norm,
) -> Decoder:
    """The decoder of that name, with the options of its own node below MODEL.MTL.DECODER.

    Args:
        input_shape: of the features that it reads.
        key: of the config, that names it.
        out_channels: of the scores; or of their stride.

    Raises:
        ValueError: there is no decoder of that name, or it cannot read these features.
    """
    if name not in DECODERS_REGISTRY:
        known = sorted(known for known, _ in DECODERS_REGISTRY)
        raise ValueError(f"{key} is {name!r}: expected one of {known}")
    decoder: type[Decoder] = DECODERS_REGISTRY.get(name)
    count = out_channels if isinstance(out_channels, int) else out_channels(decoder.output_stride(input_shape))
    widths = {"out_channels": count, "conv_dims": conv_dims, "norm": norm}
    return decoder(input_shape, **widths, **decoder.from_config(cfg))


def select_levels(input_shape: Shapes, names: Sequence[str], key: str) -> Shapes:
    """The shapes of the features that a config names.

    Raises:
        ValueError: the backbone does not give one of them, or none is named.
    """
    missing = [name for name in names if name not in input_shape]
    if missing or not names:
        raise ValueError(f"{key} is {list(names)}: the backbone gives {describe(input_shape)}")
    return {name: input_shape[name] for name in names}
