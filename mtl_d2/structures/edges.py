"""Edge labels from id maps.

An edge label is an array of {0, 1, 255}: no edge, edge, ignored. Edges are one pixel wide and one-sided: a
pixel is an edge where its id differs from that of its right or lower neighbour. They must be made after every
geometric augmentation, because a one-pixel line does not survive resampling.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

EDGE = 1
IGNORE = 255

_BLOCK = 2**16  # pixels that are compared at a time


def edges_from_ids(ids: np.ndarray, ignore: np.ndarray | int | None = None) -> np.ndarray:
    """One-pixel, one-sided edges of an id map.

    A pixel is an edge where it differs from its right or lower neighbour and both are valid. A pair that
    touches an ignored pixel is not known to be an edge or not: its left (upper) pixel is ignored, unless
    its other pair makes it an edge. Ignored pixels themselves are ignored. The border of the image is no
    edge.

    Args:
        ids: (H, W), any integer type: which object or class a pixel belongs to.
        ignore: (H, W) bool, pixels of unknown id; or the id that stands for unknown; or None where all are known.

    Returns:
        (H, W) uint8 in {0, 1, 255}.

    Raises:
        ValueError: ``ids`` is not a matrix of integers, or ``ignore`` has another shape.
    """
    if ids.ndim != 2 or not (np.issubdtype(ids.dtype, np.integer) or ids.dtype == bool):
        raise ValueError(f"ids must be an (H, W) array of integers, found {ids.dtype} of shape {ids.shape}.")
    if isinstance(ignore, np.ndarray) and ignore.shape != ids.shape:
        raise ValueError(f"ignore must have the shape of ids, {ids.shape}, found {ignore.shape}.")
    ids = np.ascontiguousarray(ids)
    label = np.zeros(ids.shape, np.uint8)
    # A few rows at a time: what is computed between stays in the cache, and takes no fresh memory.
    rows = max(1, _BLOCK // max(1, ids.shape[1]))
    for start in range(0, len(ids) if ids.size else 0, rows):
        block = slice(start, start + rows + 1)  # with the row below
        unknown = None
        if ignore is not None:
            unknown = ignore[block].astype(bool) if isinstance(ignore, np.ndarray) else ids[block] == ignore
        _label_rows(ids[block], unknown, label[start : start + rows])
    return label


def _label_rows(ids: np.ndarray, unknown: np.ndarray | None, label: np.ndarray) -> None:
    """Write the labels of a few rows, for ``edges_from_ids``.

    Args:
        ids, unknown: of these rows, and of the one below where there is one.
        label: (h, W) uint8.
    """
    # As vectors, in which all neighbours lie at one distance. The last pixel of a row meets the first one of the next
    # row there, which is put right afterwards.
    count, width = label.shape[0] * label.shape[1], label.shape[1]
    flat, edges = ids.reshape(-1), label.reshape(-1).view(bool)
    np.not_equal(flat[: count - 1], flat[1:count], out=edges[:-1])
    label[:, -1] = 0
    lower = flat[:-width] != flat[width:]
    with_lower = edges[: len(lower)]
    if unknown is None or not unknown.any():
        with_lower |= lower
        return
    flat_unknown = unknown.reshape(-1)
    unsure = flat_unknown[:count].copy()
    unsure[:-1] |= flat_unknown[1:count]
    unsure.reshape(label.shape)[:, -1] = unknown[: len(label), -1]
    np.greater(edges, unsure, out=edges)
    unsure_lower = flat_unknown[:-width] | flat_unknown[width:]
    with_lower |= lower > unsure_lower
    unsure[: len(lower)] |= unsure_lower
    label |= (unsure > edges).view(np.uint8).reshape(label.shape) * np.uint8(IGNORE)


def edge_files(record: Mapping[str, Any]) -> list[str]:
    """The files of a record's ``edge_file_name``, which is one name, or a list with one of each annotator."""
    names = record["edge_file_name"]
    return [names] if isinstance(names, str) else list(names)


def edge_consensus(edges: Sequence[np.ndarray], threshold: float = 0.5) -> np.ndarray:
    """One edge label of the edges that several annotators drew.

    A pixel is an edge where at least ``threshold`` of them drew one, and ignored where fewer did, but some:
    "Richer Convolutional Features for Edge Detection" (Liu et al. 2017), section 3.2, as in "Holistically-Nested
    Edge Detection" (Xie and Tu 2015). One annotator's edges stay as they are.

    Args:
        edges: of each annotator (H, W), nonzero at edges.
        threshold: fraction of the annotators, above 0 and at most 1.

    Returns:
        (H, W) uint8 in {0, 1, 255}.

    Raises:
        ValueError: there is no annotator, or their sizes differ.
    """
    shapes = {edge.shape for edge in edges}
    if len(shapes) != 1:
        raise ValueError(f"edges of several annotators must be one map or more of one size, found {sorted(shapes)}.")
    votes = sum((edge != 0).astype(np.int64) for edge in edges)
    label = np.where(votes > 0, np.uint8(IGNORE), np.uint8(0))
    label[(votes > 0) & (votes >= threshold * len(edges))] = EDGE
    return label


def id_map(
    masks: Sequence[np.ndarray] | np.ndarray,
    sem_seg: np.ndarray | None = None,
    *,
    areas: Sequence[float] | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Paint instances, largest first, over a semantic map.

    Semantic ids are relabelled densely to 0 .. K-1 (without a semantic map everything is 0, K = 1) and
    instance ``i`` becomes ``K + i``, so that the ids stay small whatever the semantic ids are. Of instances
    of one size the later one is on top.

    Args:
        masks: N masks of shape (H, W), as one (N, H, W) array or as a sequence. With ``areas`` and ``size``
            given each is read once, so that a lazy sequence need not hold all of them.
        sem_seg: (H, W) integers, or None.
        areas: the N areas of the masks, in any unit; counted where None.
        size: (H, W), needed only where there is neither a mask nor a semantic map.

    Returns:
        (H, W) int32.

    Raises:
        ValueError: the size is unknown, or shapes differ.
    """
    if sem_seg is not None:
        size = sem_seg.shape
    elif size is None:
        size = _size_of(masks)
    if areas is None:
        areas = [float(np.count_nonzero(masks[i])) for i in range(len(masks))]
    if sem_seg is None:
        ids, classes = np.zeros(size, np.int32), 1
    else:
        values, inverse = np.unique(sem_seg, return_inverse=True)
        ids, classes = inverse.reshape(size).astype(np.int32), len(values)
    for index in np.argsort(-np.asarray(areas, dtype=np.float64), kind="stable").tolist():
        mask = np.asarray(masks[index]).astype(bool, copy=False)
        if mask.shape != tuple(size):
            raise ValueError(f"mask {index} must have the shape {tuple(size)}, found {mask.shape}.")
        ids[mask] = classes + index
    return ids


def _size_of(masks: Sequence[np.ndarray] | np.ndarray) -> tuple[int, int]:
    if isinstance(masks, np.ndarray) and masks.ndim == 3:
        return masks.shape[1], masks.shape[2]
    if len(masks) == 0:
        raise ValueError("id_map of no mask and no semantic map needs the size of the image: pass size=(H, W).")
    return np.asarray(masks[0]).shape


def downsample_edges(edge: Tensor, stride: int) -> Tensor:
    """Edge labels of a map ``stride`` times coarser, by max-pooling.

    A cell is an edge if any of its pixels is one, ignored if all of them are ignored, else no edge. Cells
    that reach over the right or lower border count the pixels inside alone.

    Args:
        edge: (N, H, W) integers in {0, 1, 255}.
        stride: cell size in pixels, at least 1.

    Returns:
        (N, ceil(H / stride), ceil(W / stride)), same type.
    """
    if stride < 1:
        raise ValueError(f"stride must be at least 1, found {stride}.")
    if stride == 1:
        return edge
    count, height, width = edge.shape
    edge = F.pad(edge, (0, -width % stride, 0, -height % stride), value=IGNORE)
    cells = edge.reshape(count, edge.shape[1] // stride, stride, edge.shape[2] // stride, stride)
    any_edge = (cells == EDGE).any(dim=4).any(dim=2)
    all_ignored = (cells == IGNORE).all(dim=4).all(dim=2)
    return any_edge.to(edge.dtype).masked_fill(all_ignored, IGNORE)
