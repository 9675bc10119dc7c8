"""Instance masks under a transform: each mask is decoded once and kept within its own box."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import transforms as T
from fvcore.transforms.transform import Transform

from ..structures.box_masks import BoxMask, clip_mask, draw_masks
from ..structures.run_lengths import decode_rle
from .transforms import inside_padding, nearest_source

Segmentation = list | dict[str, Any]
RLE = dict[str, Any]

_SMALL = 2**17  # pixels up to which pycocotools decodes a frame faster than decode_rle a box of it
_CHUNK = 8  # small frames decoded at a time: more leave the cache


def transform_masks(
    segmentations: Sequence[Segmentation],
    transforms: T.TransformList,
    size: tuple[int, int],
    new_size: tuple[int, int],
) -> list[BoxMask]:
    """Rasterise polygons and RLEs as they lie in the transformed image, equal to Detectron2's by the pixel.

    As there, polygons are moved by their vertices and rasterised afterwards, RLEs are resampled (nearest). In the
    padding of an image all masks are empty.

    Args:
        segmentations: polygons [[x0, y0, x1, ...], ...] or a COCO RLE {"size", "counts"}, per instance.
        transforms: what was applied to the image.
        size: height and width of the image that the segmentations were drawn on.
        new_size: height and width of the transformed image.

    Raises:
        ValueError: a segmentation of another type, or an RLE of another size than the image.
    """
    rles, polygons = {}, {}
    for i, segmentation in enumerate(segmentations):
        if isinstance(segmentation, dict):
            rles[i] = _compressed(segmentation, size)
        elif isinstance(segmentation, list):
            polygons[i] = segmentation
        else:
            raise ValueError(f"found a segmentation of type {type(segmentation).__name__}, expected polygons or an RLE")
    masks = dict(zip(rles, _resample(_decode(list(rles.values()), size), transforms, size), strict=True))
    moved = _transform_polygons(list(polygons.values()), transforms)
    drawn = _decode([_to_rle(parts, new_size) for parts in moved], new_size)
    inside = inside_padding(transforms, size)
    if inside is not None:  # a polygon may reach over the border of its image
        drawn = [clip_mask(mask, inside) for mask in drawn]
    masks.update(zip(polygons, drawn, strict=True))
    return [masks[i] for i in range(len(segmentations))]


def tight_boxes(masks: Sequence[BoxMask]) -> np.ndarray:
    """Return (N, 4) float32 XYXY boxes in pixels around the masks; zeros for a mask without a pixel."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, (top, left, pixels) in zip(boxes, masks, strict=True):
        ys, xs = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        if len(ys):
            box[:] = left + xs[0], top + ys[0], left + xs[-1] + 1, top + ys[-1] + 1
    return boxes


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """COCO's "area", "bbox" and "segmentation" (compressed RLE, text) of a mask, (H, W) bool.

    Quick for masks in Fortran order, in which COCO counts.
    """
    rle = mask_util.encode(np.asfortranarray(mask).view(np.uint8))
    return {
        "area": int(mask_util.area(rle)),
        "bbox": mask_util.toBbox(rle).tolist(),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
    }


def _compressed(rle: RLE, size: tuple[int, int]) -> RLE:
    if tuple(rle["size"]) != tuple(size):
        raise ValueError(f"found an RLE of size {list(rle['size'])}, expected the image's {list(size)} (height, width)")
    return mask_util.frPyObjects(rle, *size) if isinstance(rle["counts"], list) else rle


def _decode(rles: list[RLE], size: tuple[int, int]) -> list[BoxMask]:
    if size[0] * size[1] > _SMALL:
        return [decode_rle(rle) for rle in rles]
    masks = []
    for start in range(0, len(rles), _CHUNK):
        chunk = rles[start : start + _CHUNK]
        # pycocotools fills (H, W, N) in Fortran order: seen as (N, W, H) it is contiguous.
        frames = mask_util.decode(chunk).transpose(2, 1, 0)
        boxes = mask_util.toBbox(chunk).astype(np.int64).tolist()
        for frame, (x, y, w, h) in zip(frames, boxes, strict=True):
            masks.append(BoxMask(y, x, frame[x : x + w, y : y + h].T.astype(bool)))
    return masks


def _resample(masks: list[BoxMask], transforms: T.TransformList, size: tuple[int, int]) -> list[BoxMask]:
    source = nearest_source(transforms, size)
    if source is not None:
        return [_take(mask, *source) for mask in masks]
    resampled = []
    for mask in masks:
        frame = draw_masks([mask], size)[0].view(np.uint8)
        # Not astype(bool): what a transform pads semantic maps with is no part of a mask.
        resampled.append(BoxMask(0, 0, transforms.apply_segmentation(frame) == 1))
    return resampled


def _take(mask: BoxMask, rows: np.ndarray, cols: np.ndarray) -> BoxMask:
    height, width = mask.pixels.shape
    # Source rows and columns rise or fall steadily, so that those inside the box are neighbours.
    ys = np.flatnonzero((rows >= mask.top) & (rows < mask.top + height))
    xs = np.flatnonzero((cols >= mask.left) & (cols < mask.left + width))
    if not len(ys) or not len(xs):
        return BoxMask(0, 0, np.zeros((0, 0), bool))
    pixels = mask.pixels[rows[ys] - mask.top][:, cols[xs] - mask.left]
    return BoxMask(int(ys[0]), int(xs[0]), pixels)


def _to_rle(polygons: list[np.ndarray], size: tuple[int, int]) -> RLE:
    """The union of polygons, each (n, 2) as (x, y)."""
    # pycocotools refuses an empty list: a polygon without area stands for it.
    parts = mask_util.frPyObjects([polygon.reshape(-1) for polygon in polygons] or [np.zeros(6)], *size)
    return parts[0] if len(parts) == 1 else mask_util.merge(parts)


def _transform_polygons(instances: list[list], transforms: T.TransformList) -> list[list[np.ndarray]]:
    # A float copy each: transforms move vertices in place, and integer vertices would be truncated by it.
    arrays = [[np.array(p, np.float64).reshape(-1, 2) for p in polygons] for polygons in instances]
    if any(type(t).apply_polygons is not Transform.apply_polygons for t in transforms.transforms):
        return [transforms.apply_polygons(polygons) for polygons in arrays]
    flat = [polygon for polygons in arrays for polygon in polygons]
    if not flat:
        return arrays
    moved = transforms.apply_coords(np.concatenate(flat))
    parts = iter(np.split(moved, np.cumsum([len(polygon) for polygon in flat])[:-1]))
    return [[next(parts) for _ in polygons] for polygons in arrays]
