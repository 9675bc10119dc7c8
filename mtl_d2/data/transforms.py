"""Augmentations from the config, and where a transformed pixel comes from."""

from collections.abc import Callable

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from fvcore.transforms.transform import BlendTransform, PadTransform, Transform
from PIL import Image

from .augmentations import (
    PadToSize,
    RandomCropOfStructures,
    RandomSaturation,
    ResizeByFactor,
    ResizeShortestEdge,
    ScaleJitter,
)

Index = np.ndarray


class InvertTransform(Transform):
    """Invert the intensities of a uint8 image (255 - x); labels and coordinates stay as they are."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        if img.dtype != np.uint8:
            raise TypeError(f"image: found dtype {img.dtype}, expected uint8; set INPUT.MTL.INVERT_PROB to 0.")
        return 255 - img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return InvertTransform()


class RandomInvert(T.Augmentation):
    """Invert the intensities with probability ``prob``: bright objects on dark ground and the reverse."""

    def __init__(self, prob: float) -> None:
        super().__init__()
        self.prob = prob

    def get_transform(self, image: np.ndarray) -> Transform:
        return InvertTransform() if self._rand_range() < self.prob else T.NoOpTransform()


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return Detectron2's augmentations of INPUT (crop, resize, flip), then ours of INPUT.MTL.

    Padding comes last: flips leave it at the right and below, colours leave it gray.

    Raises:
        ValueError: a key of INPUT.MTL is out of its range.
    """
    augmentations = [_never_to_nothing(augmentation) for augmentation in utils.build_augmentation(cfg, is_train)]
    keys = cfg.INPUT.MTL
    if not is_train:
        if keys.SCALE_TEST < 0:
            raise ValueError(
                f"INPUT.MTL.SCALE_TEST is {keys.SCALE_TEST}: expected a factor above 0, or 0 for MIN_SIZE_TEST."
            )
        return [ResizeByFactor(keys.SCALE_TEST)] if keys.SCALE_TEST else augmentations
    if keys.LSJ.ENABLED:
        augmentations[:1] = _large_scale_jitter(keys.LSJ)
    if cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, _random_crop(cfg))
    if keys.VERTICAL_FLIP_PROB > 0:
        augmentations.append(T.RandomFlip(keys.VERTICAL_FLIP_PROB, horizontal=False, vertical=True))
    augmentations += _color_jitter(keys.COLOR_JITTER, cfg.INPUT.FORMAT)
    if keys.INVERT_PROB > 0:
        augmentations.append(RandomInvert(keys.INVERT_PROB))
    if keys.LSJ.ENABLED:
        augmentations.append(PadToSize(tuple(keys.LSJ.SIZE), cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE))
    return augmentations


def _never_to_nothing(augmentation: T.Augmentation) -> T.Augmentation:
    if not isinstance(augmentation, T.ResizeShortestEdge):
        return augmentation
    sizes, style = augmentation.short_edge_length, augmentation.sample_style
    return ResizeShortestEdge(sizes, augmentation.max_size, style, augmentation.interp)


def _large_scale_jitter(keys: CfgNode) -> list[T.Augmentation]:
    """Resize and crop of the large-scale jitter; :class:`PadToSize` is its last part.

    Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, 2021,
    section 3.
    """
    if not 0 < keys.MIN_SCALE <= keys.MAX_SCALE:
        raise ValueError(
            f"INPUT.MTL.LSJ: found MIN_SCALE {keys.MIN_SCALE} and MAX_SCALE {keys.MAX_SCALE}, expected two factors "
            "above 0, the smaller one first."
        )
    size = tuple(keys.SIZE)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"INPUT.MTL.LSJ.SIZE: found {list(size)}, expected height and width in pixels.")
    return [ScaleJitter(keys.MIN_SCALE, keys.MAX_SCALE, *size), T.FixedSizeCrop(size, pad=False)]


def _random_crop(cfg: CfgNode) -> T.Augmentation:
    crop, candidates = cfg.INPUT.CROP, cfg.INPUT.MTL.CROP_CANDIDATES
    if candidates < 1:
        raise ValueError(f"INPUT.MTL.CROP_CANDIDATES: found {candidates}, expected 1 (any crop) or more.")
    if candidates == 1:
        return T.RandomCrop(crop.TYPE, crop.SIZE)
    return RandomCropOfStructures(crop.TYPE, crop.SIZE, candidates, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)


def _color_jitter(keys: CfgNode, image_format: str) -> list[T.Augmentation]:
    for name in ("BRIGHTNESS", "CONTRAST", "SATURATION"):
        if not 0 <= keys[name] <= 1:
            raise ValueError(f"INPUT.MTL.COLOR_JITTER.{name}: found {keys[name]}, expected 0 (none) to 1.")
    augmentations: list[T.Augmentation] = []
    if keys.BRIGHTNESS:
        augmentations.append(T.RandomBrightness(1 - keys.BRIGHTNESS, 1 + keys.BRIGHTNESS))
    if keys.CONTRAST:
        augmentations.append(T.RandomContrast(1 - keys.CONTRAST, 1 + keys.CONTRAST))
    if keys.SATURATION:
        if image_format not in ("RGB", "BGR"):
            raise ValueError(
                f"INPUT.MTL.COLOR_JITTER.SATURATION: found {keys.SATURATION} for images of INPUT.FORMAT "
                f"{image_format!r}, expected RGB or BGR; set it to 0."
            )
        augmentations.append(RandomSaturation(1 - keys.SATURATION, 1 + keys.SATURATION, image_format))
    return augmentations


def nearest_source(transforms: T.TransformList, size: tuple[int, int]) -> tuple[Index, Index] | None:
    """Return which source row and column each row and column of a transformed label map comes from.

    Cropping, flipping, padding and nearest resizing move whole rows and columns: ``label[rows][:, cols]`` equals
    ``transforms.apply_segmentation(label)`` for every uint8 label (outside of the padding), and can be done within a
    mask's own box.

    Args:
        transforms: what was applied to the image.
        size: height and width of the source in pixels.

    Returns:
        Integer vectors of the new height and of the new width, -1 in padding, or None where a transform is of
        another kind (a rotation, or a subclass whose behaviour is unknown).
    """
    rows, cols = np.arange(size[0]), np.arange(size[1])
    for transform in transforms.transforms:
        step = _STEPS.get(type(transform))
        if step is None:
            return None
        rows, cols = step(transform, rows, cols)
    return rows, cols


def inside_padding(transforms: T.TransformList, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """Rows and columns of a transformed image that show the source; None where all of them do.

    Args:
        transforms: what was applied to the image.
        size: height and width of the source in pixels.
    """
    if not any(isinstance(transform, PadTransform) for transform in transforms.transforms):
        return None
    source = nearest_source(transforms, size)
    if source is None:
        return None
    rows, cols = (np.flatnonzero(index >= 0) for index in source)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def _unmoved(transform: Transform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return rows, cols


def _hflip(transform: Transform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return rows, cols[::-1]


def _vflip(transform: Transform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return rows[::-1], cols


def _crop(transform: T.CropTransform, rows: Index, cols: Index) -> tuple[Index, Index]:
    y, x = transform.y0, transform.x0
    return rows[y : y + transform.h], cols[x : x + transform.w]


def _pad(transform: PadTransform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return (
        np.pad(rows, (transform.y0, transform.y1), constant_values=-1),
        np.pad(cols, (transform.x0, transform.x1), constant_values=-1),
    )


def _resize(transform: T.ResizeTransform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return rows[_pil_nearest(len(rows), transform.new_h)], cols[_pil_nearest(len(cols), transform.new_w)]


def _pil_nearest(length: int, new_length: int) -> Index:
    """Return the source of each pixel of a line that PIL resizes, by resizing the line of indices itself."""
    if length == new_length:
        return np.arange(length)
    line = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    return np.asarray(line.resize((new_length, 1), Image.Resampling.NEAREST))[0]


_STEPS: dict[type[Transform], Callable[..., tuple[Index, Index]]] = {
    T.NoOpTransform: _unmoved,
    InvertTransform: _unmoved,
    BlendTransform: _unmoved,
    T.ColorTransform: _unmoved,
    T.PILColorTransform: _unmoved,
    T.HFlipTransform: _hflip,
    T.VFlipTransform: _vflip,
    T.CropTransform: _crop,
    T.ResizeTransform: _resize,
    PadTransform: _pad,
}
