"""One set of instances from those of tiles that overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..structures.box_masks import BoxMask, clip_mask, intersection_area, union_mask

Rectangle = tuple[slice, slice]  # rows and columns of a tile in the image


@dataclass(frozen=True)
class Detection:
    """An instance as one tile saw it, or what several tiles saw of it.

    Attributes:
        box: (4,) x0, y0, x1, y1 in pixels of the image.
        score: in 0..1.
        category: class id.
        mask: in the image; None for a network without masks.
        tiles: indices of the tiles that saw it.
        cut: a tile's border that is not the image's runs through it.
        owned: its centre lies in the core of its tile, which no other tile sees better.
        keypoints: (K, 3) x, y in pixels of the image and score; None for a network without them.
    """

    box: np.ndarray
    score: float
    category: int
    mask: BoxMask | None
    tiles: tuple[int, ...]
    cut: bool
    owned: bool
    keypoints: np.ndarray | None = None


def merge_detections(
    detections: Sequence[Detection],
    tiles: Sequence[Rectangle],
    *,
    nms_threshold: float,
    join_threshold: float = 0.5,
    inside_threshold: float = 0.5,
) -> list[Detection]:
    """Join what tile borders cut, leave each instance to the tile that sees it best, and remove duplicates.

    1. Instances of one class that borders cut in two tiles are one where their masks (boxes, without masks)
       agree in the rectangle that the tiles share.
    2. What no tile owns is dropped: its owner, which saw more of its surroundings, has it or denies it.
    3. Greedy NMS per class between tiles, uncut ones first, by score. A cut one is also dropped where it lies
       within another.

    Within a tile the network's own NMS has decided: two instances of one tile are never compared.

    Args:
        detections: of all tiles.
        tiles: by the index that the detections name.
        nms_threshold: box IoU above which two instances are one.
        join_threshold: IoU in the shared rectangle from which on two parts are joined.
        inside_threshold: fraction of a cut instance, from which on it belongs to the other.

    Returns:
        by falling score.
    """
    neighbours = _neighbours(tiles)
    joined = [found for found in _join(detections, tiles, neighbours, join_threshold) if found.owned]
    kept_by_tile: list[list[Detection]] = [[] for _ in tiles]
    kept = []
    for found in sorted(joined, key=lambda d: (d.cut, -d.score)):
        near = {id(k): k for i in found.tiles for j in neighbours[i] for k in kept_by_tile[j]}
        if not any(_duplicates(found, other, nms_threshold, inside_threshold) for other in near.values()):
            kept.append(found)
            for i in found.tiles:
                kept_by_tile[i].append(found)
    return sorted(kept, key=lambda d: -d.score)


def _neighbours(tiles: Sequence[Rectangle]) -> list[list[int]]:
    """For each tile, those that share a pixel with it, itself too."""
    starts, stops = (np.array([[getattr(side, end) for side in tile] for tile in tiles]) for end in ("start", "stop"))
    shared = (((starts < stop) & (start < stops)).all(axis=1) for start, stop in zip(starts, stops, strict=True))
    return [np.flatnonzero(which).tolist() for which in shared]


def _join(
    detections: Sequence[Detection], tiles: Sequence[Rectangle], neighbours: list[list[int]], threshold: float
) -> list[Detection]:
    cut_in: list[list[int]] = [[] for _ in tiles]
    for index, found in enumerate(detections):
        if found.cut:
            cut_in[found.tiles[0]].append(index)
    pairs = [
        (first, second)
        for i, near in enumerate(neighbours)
        for j in near
        if i < j
        for first in cut_in[i]
        for second in cut_in[j]
        if _agree(detections[first], detections[second], _shared(tiles[i], tiles[j]), threshold)
    ]
    links = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(len(detections),) * 2)
    count, labels = connected_components(graph, directed=False)
    groups: list[list[Detection]] = [[] for _ in range(count)]
    for found, label in zip(detections, labels, strict=True):
        groups[label].append(found)
    return [group[0] if len(group) == 1 else _unite(group) for group in groups]


def _shared(first: Rectangle, second: Rectangle) -> Rectangle:
    rows, columns = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return rows, columns


def _agree(first: Detection, second: Detection, shared: Rectangle, threshold: float) -> bool:
    if first.category != second.category or not _intersection(first.box, second.box):
        return False
    if first.mask is None or second.mask is None:
        rows, columns = shared
        limits = np.array([columns.start, rows.start, columns.stop, rows.stop], float)
        return _iou(*(_clip_box(found.box, limits) for found in (first, second))) >= threshold
    common = intersection_area(first.mask, second.mask)
    union = clip_mask(first.mask, shared).area + clip_mask(second.mask, shared).area - common
    return common > 0 and common >= threshold * union


def _unite(group: list[Detection]) -> Detection:
    boxes = np.stack([found.box for found in group])
    masks = [found.mask for found in group if found.mask is not None]
    return Detection(
        box=np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]),
        score=max(found.score for found in group),
        category=group[0].category,
        mask=union_mask(masks) if masks else None,
        tiles=tuple(sorted({i for found in group for i in found.tiles})),
        cut=True,
        owned=any(found.owned for found in group),
        keypoints=_surest([found.keypoints for found in group if found.keypoints is not None]),
    )


def _surest(keypoints: list[np.ndarray]) -> np.ndarray | None:
    """Each keypoint as the one saw it that gives it the highest score."""
    if not keypoints:
        return None
    stacked = np.stack(keypoints)
    return stacked[stacked[..., 2].argmax(axis=0), np.arange(stacked.shape[1])]


def _duplicates(found: Detection, kept: Detection, nms_threshold: float, inside_threshold: float) -> bool:
    if found.category != kept.category or not set(found.tiles).isdisjoint(kept.tiles):
        return False
    if _iou(found.box, kept.box) > nms_threshold:
        return True
    return found.cut and _inside(found, kept) >= inside_threshold


def _inside(found: Detection, kept: Detection) -> float:
    """The fraction of ``found`` that lies in ``kept``."""
    if found.mask is None or kept.mask is None:
        return _ratio(_intersection(found.box, kept.box), _area(found.box))
    return _ratio(intersection_area(found.mask, kept.mask), found.mask.area)


def _clip_box(box: np.ndarray, limits: np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(box[:2], limits[:2]), np.minimum(box[2:], limits[2:])])


def _area(box: np.ndarray) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def _intersection(first: np.ndarray, second: np.ndarray) -> float:
    return _area(_clip_box(first, second))


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    common = _intersection(first, second)
    return _ratio(common, _area(first) + _area(second) - common)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
