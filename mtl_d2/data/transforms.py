"""Augmentations from the config, and where a transformed pixel comes from."""

from collections.abc import Callable

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from fvcore.transforms.transform import BlendTransform, Transform
from PIL import Image

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


class ResizeByFactor(T.Augmentation):
    """Resize by a constant factor, where pixels have a physical size that must not depend on the image's extent."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        return T.ResizeTransform(height, width, round(height * self.factor), round(width * self.factor))


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Return Detectron2's augmentations of INPUT (crop, resize, flip), then ours of INPUT.MTL.

    Raises:
        ValueError: INPUT.MTL.SCALE_TEST is negative.
    """
    augmentations = utils.build_augmentation(cfg, is_train)
    if not is_train:
        scale = cfg.INPUT.MTL.SCALE_TEST
        if scale < 0:
            raise ValueError(f"INPUT.MTL.SCALE_TEST is {scale}: expected a factor above 0, or 0 for MIN_SIZE_TEST.")
        return [ResizeByFactor(scale)] if scale else augmentations
    if cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    if cfg.INPUT.MTL.VERTICAL_FLIP_PROB > 0:
        flip = T.RandomFlip(cfg.INPUT.MTL.VERTICAL_FLIP_PROB, horizontal=False, vertical=True)
        augmentations.append(flip)
    if cfg.INPUT.MTL.INVERT_PROB > 0:
        augmentations.append(RandomInvert(cfg.INPUT.MTL.INVERT_PROB))
    return augmentations


def nearest_source(transforms: T.TransformList, size: tuple[int, int]) -> tuple[Index, Index] | None:
    """Return which source row and column each row and column of a transformed label map comes from.

    Cropping, flipping and nearest resizing move whole rows and columns: ``label[rows][:, cols]`` equals
    ``transforms.apply_segmentation(label)`` for every uint8 label, and can be done within a mask's own box.

    Args:
        transforms: what was applied to the image.
        size: height and width of the source in pixels.

    Returns:
        Integer vectors of the new height and of the new width, or None where a transform is of another kind
        (a rotation, or a subclass whose behaviour is unknown).
    """
    rows, cols = np.arange(size[0]), np.arange(size[1])
    for transform in transforms.transforms:
        step = _STEPS.get(type(transform))
        if step is None:
            return None
        rows, cols = step(transform, rows, cols)
    return rows, cols


def _unmoved(transform: Transform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return rows, cols


def _hflip(transform: Transform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return rows, cols[::-1]


def _vflip(transform: Transform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return rows[::-1], cols


def _crop(transform: T.CropTransform, rows: Index, cols: Index) -> tuple[Index, Index]:
    y, x = transform.y0, transform.x0
    return rows[y : y + transform.h], cols[x : x + transform.w]


def _resize(transform: T.ResizeTransform, rows: Index, cols: Index) -> tuple[Index, Index]:
    return rows[_pil_nearest(len(rows), transform.new_h)], cols[_pil_nearest(len(cols), transform.new_w)]


def _pil_nearest(length: int, new_length: int) -> Index:
    """Return the source of each pixel of a line that PIL resizes, by resizing the line of indices itself."""
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
}
