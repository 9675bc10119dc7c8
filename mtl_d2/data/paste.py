"""Pixels and labels of objects moved from one image into another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from ..structures.box_masks import BoxMask, clip_mask, crop_mask
from ..structures.edges import EDGE, edges_from_ids
from .labelled_image import LabelledImage, Window
from .masks import tight_boxes


def paste_objects(
    target: LabelledImage,
    source: LabelledImage,
    chosen: Sequence[int],
    offset: tuple[int, int],
    *,
    semantic_ids: Sequence[int | None] = (),
    blend_sigma: float = 0.0,
) -> LabelledImage:
    """Return the target with objects of the source on top; neither of both is changed.

    A pixel that is pasted belongs to one object: of objects that overlap in the source, the smaller lies on top.
    Masks of the target lose what is covered; objects without a pixel left are dropped, all boxes become tight.
    Edges from a file get the outlines of what is pasted, derived ones follow from the labels. A label that the
    target lacks stays absent.

    Args:
        target, source: with masks; ``target.objects`` None is no label.
        chosen: indices of the source's objects.
        offset: of the source's upper left corner in the target, (y, x) in pixels.
        semantic_ids: of the instance classes; where None, or where there are none, the source's map is copied.
        blend_sigma: the object's mask is smoothed by a Gaussian of this standard deviation, in pixels, and used as
            the weight of the source's pixels; 0 copies them. Labels are not blended.
    """
    objects = source.objects or []
    window = _overlap(offset, source.size, target.size)
    moved = {i: _move(source.masks[i], offset, window) for i in chosen} if source.masks else {}
    owners = _draw_owners(moved, target.size)
    pasted = {i: crop_mask(owners[mask.window] == i + 1, mask.top, mask.left) for i, mask in moved.items()}
    pasted = {i: mask for i, mask in pasted.items() if mask.pixels.size}
    covered = owners > 0
    result = replace(target, image=_blend(target, source, covered, offset, blend_sigma))
    if target.sem_seg is not None:
        result.sem_seg = target.sem_seg.copy()
        for i, mask in pasted.items():
            known = semantic_ids[objects[i]["category_id"]] if semantic_ids else None
            result.sem_seg[mask.window][mask.pixels] = _semantics(source, mask, offset) if known is None else known
    if target.edge is not None:
        result.edge = np.where(covered, 0, target.edge).astype(np.uint8)
        result.edge[edges_from_ids(owners) == EDGE] = EDGE
    result.crowds = [_uncover(mask, covered) for mask in target.crowds]
    if target.objects is not None and target.masks is not None:
        left = [(a, _uncover(mask, covered)) for a, mask in zip(target.objects, target.masks, strict=True)]
        left = [(annotation, mask) for annotation, mask in left if mask.pixels.any()]
        left += [(objects[i], mask) for i, mask in pasted.items()]
        result.objects, result.masks = [annotation for annotation, _ in left], [mask for _, mask in left]
        result.boxes = tight_boxes(result.masks)
    return result


def whole_objects(source: LabelledImage, target: LabelledImage, offset: tuple[int, int]) -> list[int]:
    """Indices of the source's objects that lie in the target and that no border of the source cuts there.

    Where such a border lies inside of the target, an object that it cuts would get a straight edge there.

    Args:
        source: with masks; in its padding there are none.
        offset: see :func:`paste_objects`.
    """
    shown = source.inside or (slice(0, source.size[0]), slice(0, source.size[1]))
    # As (x, y), like boxes: the corners of what is shown of the source, and of the target.
    start, stop = (np.array([getattr(side, end) for side in shown[::-1]]) for end in ("start", "stop"))
    shift, size = np.array(offset[::-1]), np.array(target.size[::-1])
    first, last = np.split(tight_boxes(source.masks or []), 2, axis=1)
    cut = (first <= start) & (start + shift > 0) | (last >= stop) & (stop + shift < size)
    outside = (last + shift <= 0) | (first + shift >= size) | (last == first)
    return np.flatnonzero(~(cut | outside).any(axis=1)).tolist()


def _overlap(offset: tuple[int, int], source: tuple[int, int], target: tuple[int, int]) -> Window:
    """Rows and columns of the target over which the source lies."""
    starts = [max(0, shift) for shift in offset]
    stops = [min(end, shift + length) for shift, length, end in zip(offset, source, target, strict=True)]
    rows, cols = (slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    return rows, cols


def _move(mask: BoxMask, offset: tuple[int, int], window: Window) -> BoxMask:
    return clip_mask(BoxMask(mask.top + offset[0], mask.left + offset[1], mask.pixels), window)


def _draw_owners(masks: Mapping[int, BoxMask], size: tuple[int, int]) -> np.ndarray:
    """Paint the masks, the largest first, as their keys plus 1 on 0: (H, W) int32."""
    owners = np.zeros(size, np.int32)
    for i, mask in sorted(masks.items(), key=lambda item: -item[1].area):
        owners[mask.window][mask.pixels] = i + 1
    return owners


def _blend(
    target: LabelledImage, source: LabelledImage, covered: np.ndarray, offset: tuple[int, int], sigma: float
) -> np.ndarray:
    image = target.image.copy()
    window = _overlap(offset, source.size, target.size)
    patch, where = source.image[_in_source(window, offset)], covered[window]
    if sigma == 0:
        image[window][where] = patch[where]
        return image
    weight = cv2.GaussianBlur(where.astype(np.float32), (0, 0), sigma)[:, :, None]
    image[window] = np.rint(weight * patch + (1 - weight) * image[window]).astype(np.uint8)
    return image


def _in_source(window: Window, offset: tuple[int, int]) -> Window:
    rows, cols = (slice(s.start - shift, s.stop - shift) for s, shift in zip(window, offset, strict=True))
    return rows, cols


def _semantics(source: LabelledImage, mask: BoxMask, offset: tuple[int, int]) -> np.ndarray:
    if source.sem_seg is None:
        raise ValueError(
            "source: found no semantic map and no semantic id, expected one of both; leave that object out"
        )
    return source.sem_seg[_in_source(mask.window, offset)][mask.pixels]


def _uncover(mask: BoxMask, covered: np.ndarray) -> BoxMask:
    return mask._replace(pixels=mask.pixels & ~covered[mask.window])
