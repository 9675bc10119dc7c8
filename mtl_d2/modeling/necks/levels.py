"""Levels of features brought to each other's size, and chosen by name."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor
from torch.nn import functional as F

from .base import ImageSizes


def upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear interpolation of (N, C, h, w) to ``size``, a height and a width of at least h and w."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def max_pool(x: Tensor, factor: int) -> Tensor:
    """Maxima of blocks, (N, C, h, w) to (N, C, ceil(h / factor), ceil(w / factor))."""
    return x if factor == 1 else F.max_pool2d(x, factor, ceil_mode=True)


def mean_pool(x: Tensor, factor: int) -> Tensor:
    """Means of blocks, those at the border over what is there; sizes as of :func:`max_pool`."""
    return x if factor == 1 else F.avg_pool2d(x, factor, ceil_mode=True, count_include_pad=False)


def mean_over_images(x: Tensor, stride: int, image_sizes: ImageSizes) -> Tensor:
    """The mean over the cells that an image reaches, padding aside: (N, C) in float32.

    Args:
        x: (N, C, h, w).
        stride: of its cells, in pixels.
        image_sizes: height and width of the N images in pixels.
    """
    means = []
    for feature, size in zip(x, image_sizes, strict=True):
        height, width = (-(-int(side) // stride) for side in size)
        means.append(feature[:, :height, :width].mean(dim=(1, 2), dtype=torch.float32))
    return torch.stack(means)


def choose_levels(input_shape: Mapping[str, ShapeSpec], names: Sequence[str], key: str) -> dict[str, ShapeSpec]:
    """The shapes of the named levels, all if none is named, from fine to coarse.

    Raises:
        ValueError: the backbone does not give one of them.
    """
    missing = [name for name in names if name not in input_shape]
    if missing:
        raise ValueError(f"{key} asks for {missing}: the backbone gives {sorted(input_shape)}")
    chosen = {name: input_shape[name] for name in names or input_shape}
    return dict(sorted(chosen.items(), key=lambda item: item[1].stride))
