"""Augmentations that Detectron2 lacks, or has for full labels and RGB images only."""

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import PadTransform, Transform

from ..structures.edges import EDGE, edges_from_ids

PAD_GRAY = 128  # of the padding of an image, as in Detectron2 and in the paper of the large-scale jitter


class ResizeByFactor(T.Augmentation):
    """Resize by a constant factor, where pixels have a physical size that must not depend on the image's extent."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        new_size = (max(1, round(side * self.factor)) for side in (height, width))
        return T.ResizeTransform(height, width, *new_size)


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's, but never to less than a pixel: its other side is rounded to 0 in images that are very long."""

    def get_transform(self, image: np.ndarray) -> Transform:
        transform = super().get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            transform.new_h, transform.new_w = max(1, transform.new_h), max(1, transform.new_w)
        return transform


class ScaleJitter(T.ResizeScale):
    """Resize to fit into a target size times a random factor, as Detectron2, but never to less than a pixel."""

    def get_transform(self, image: np.ndarray) -> Transform:
        transform = super().get_transform(image)
        transform.new_h, transform.new_w = max(1, int(transform.new_h)), max(1, int(transform.new_w))
        return transform


class PadToSize(T.Augmentation):
    """Pad at the right and below where an image is smaller than ``size``.

    Args:
        size: height and width in pixels.
        ignore_value: of semantic maps there. Masks are empty there, edges ignored (the mapper sees to that).
    """

    def __init__(self, size: tuple[int, int], ignore_value: int = 255) -> None:
        super().__init__()
        self.size = size
        self.ignore_value = ignore_value

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        bottom, right = max(0, self.size[0] - height), max(0, self.size[1] - width)
        if not bottom and not right:
            return T.NoOpTransform()
        return PadTransform(0, 0, right, bottom, width, height, PAD_GRAY, self.ignore_value)


class RandomSaturation(T.RandomSaturation):
    """Detectron2's, whose weights of the channels are those of RGB, for images in either order.

    Args:
        intensity_min, intensity_max: range of the factor; 1 keeps the image, 0 makes it gray.
        image_format: "RGB" or "BGR".
    """

    def __init__(self, intensity_min: float, intensity_max: float, image_format: str) -> None:
        super().__init__(intensity_min, intensity_max)
        self.image_format = image_format

    def get_transform(self, image: np.ndarray) -> Transform:
        # The transform blends with a gray image, which has no order of channels any more.
        return super().get_transform(image[:, :, ::-1] if self.image_format == "BGR" else image)


class RandomCropOfStructures(T.RandomCrop):
    """Of several random crops one, drawn the more likely the more small objects and borders it holds.

    A crop *keeps* an object whose box (before the crop, in whole) lies inside of it. What counts as its content is

    - the share of the image's objects that it keeps, each weighed by 1 / sqrt(area of its box): one of 8 pixels
      counts as much as four of 32;
    - the share of the border pixels of the semantic map (between classes, void aside) that lie inside of it.

    The probability of a candidate is proportional to the mean of the shares that the image has labels for, plus
    ``FLOOR``, so that a crop of background alone can be drawn too. Without such labels all candidates are alike.

    It never resamples: pixels of image and labels are copied, so that no line becomes thinner or breaks, and the
    edges of the crop are those of the cropped masks.

    Args:
        crop_type, crop_size: of Detectron2's RandomCrop, from which the candidates are drawn.
        candidates: 1 is Detectron2's RandomCrop.
        ignore_value: void in semantic maps.
    """

    FLOOR = 0.02

    def __init__(
        self, crop_type: str, crop_size: tuple[float, float], candidates: int, ignore_value: int = 255
    ) -> None:
        super().__init__(crop_type, crop_size)
        self.candidates = candidates
        self.ignore_value = ignore_value

    def get_transform(
        self, image: np.ndarray, boxes: np.ndarray | None = None, sem_seg: np.ndarray | None = None
    ) -> Transform:
        crops = [super(RandomCropOfStructures, self).get_transform(image) for _ in range(self.candidates)]
        windows = np.array([(crop.x0, crop.y0, crop.x0 + crop.w, crop.y0 + crop.h) for crop in crops])
        shares = []
        if boxes is not None and len(boxes):
            shares.append(kept_share(boxes, windows))
        if sem_seg is not None:
            shares.append(border_share(sem_seg, windows, self.ignore_value))
        content = np.mean(shares, axis=0) if shares else np.zeros(len(crops))
        weights = content + self.FLOOR
        return crops[np.random.choice(len(crops), p=weights / weights.sum())]  # noqa: NPY002


def kept_share(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """For each window, the share of the boxes that lie inside of it, each weighed by 1 / sqrt(area).

    Args:
        boxes: (N, 4) XYXY in pixels, N at least 1.
        windows: (M, 4) XYXY in pixels.

    Returns:
        (M,) in [0, 1].
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    weights = 1 / np.sqrt(sides.prod(axis=1))
    after, before = boxes[None, :, :2] >= windows[:, None, :2], boxes[None, :, 2:] <= windows[:, None, 2:]
    return (after & before).all(axis=2) @ weights / weights.sum()


def border_share(sem_seg: np.ndarray, windows: np.ndarray, ignore_value: int) -> np.ndarray:
    """For each window, the share of the semantic map's border pixels in it; 0 where the map has none.

    Args:
        sem_seg: (H, W) uint8 semantic ids.
        windows: (M, 4) XYXY in pixels, inside the map.
        ignore_value: void in ``sem_seg``.

    Returns:
        (M,) in [0, 1].
    """
    borders = edges_from_ids(sem_seg, sem_seg == ignore_value) == EDGE
    counts = np.array([np.count_nonzero(borders[y0:y1, x0:x1]) for x0, y0, x1, y1 in windows.tolist()])
    return counts / max(int(np.count_nonzero(borders)), 1)
