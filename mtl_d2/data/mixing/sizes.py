"""Size buckets: which images to put into one batch so that little of it is padding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ..schema import DatasetError


def input_sizes(cfg: CfgNode, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the (N, 2) height and width in pixels that images have after INPUT.CROP and the middle MIN_SIZE_TRAIN.

    Raises:
        DatasetError: a record has no height or width.
    """
    short_edges = sorted(cfg.INPUT.MIN_SIZE_TRAIN)
    short = short_edges[len(short_edges) // 2] if short_edges else 0
    crop = T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE) if cfg.INPUT.CROP.ENABLED else None
    sizes = []
    for record in records:
        if not (record.get("height") and record.get("width")):
            raise DatasetError(
                f"DATALOADER.MTL.SIZE_BUCKETS: found no 'height' and 'width' in the record of "
                f"{record['file_name']}, expected them in every record; add them or set SIZE_BUCKETS 0."
            )
        size = (record["height"], record["width"])
        if crop is not None and not crop.crop_type.endswith("_range"):  # a range has no one size
            size = crop.get_crop_size(size)
        if short:
            shape = T.ResizeShortestEdge.get_output_shape(*size, short, cfg.INPUT.MAX_SIZE_TRAIN)
            size = max(1, shape[0]), max(1, shape[1])
        sizes.append(size)
    return np.array(sizes, np.int64)


def size_buckets(sizes: np.ndarray, count: int) -> np.ndarray:
    """Divide images into at most ``count`` buckets of like height and width.

    Again and again, one bucket is split in two by height or by width, so that most pixels are saved when every
    image is padded to the largest height and width of its bucket.

    Args:
        sizes: (N, 2) height and width in pixels.
        count: 1 or more; fewer buckets come back where there are fewer sizes.

    Returns:
        (N,) int64; buckets that were split from each other have neighbouring numbers.
    """
    buckets = [np.arange(len(sizes))]
    splits = [_best_split(sizes)]
    while len(buckets) < count:
        best = int(np.argmax([saved for saved, _ in splits]))
        saved, small = splits[best]
        if saved <= 0:
            break
        members = buckets[best]
        buckets[best : best + 1] = parts = [members[small], members[~small]]
        splits[best : best + 1] = [_best_split(sizes[part]) for part in parts]
    result = np.empty(len(sizes), np.int64)
    for number, members in enumerate(buckets):
        result[members] = number
    return result


def _best_split(sizes: np.ndarray) -> tuple[int, np.ndarray]:
    """Return how many pixels the best split saves, 0 where there is none, and (N,) bool: the part of smaller images."""
    best, small = 0, np.ones(len(sizes), bool)
    whole = len(sizes) * int(sizes.max(axis=0).prod())
    number = np.arange(1, len(sizes))
    for axis in (0, 1):
        ordered = sizes[np.argsort(sizes[:, axis], kind="stable")]
        below = np.maximum.accumulate(ordered)[:-1].prod(axis=1) * number
        above = np.maximum.accumulate(ordered[::-1])[:-1].prod(axis=1)[::-1] * number[::-1]
        saved = np.where(np.diff(ordered[:, axis]) > 0, whole - below - above, 0)
        if len(saved) and saved.max() > best:
            best, small = int(saved.max()), sizes[:, axis] <= ordered[saved.argmax(), axis]
    return best, small


def order_by_bucket(buckets: np.ndarray, batch_size: int) -> np.ndarray:
    """Return an order of a round's images in which batches are of one bucket, but for the rests of the buckets.

    A batch stands where its last image stood: as if batches were handed out as soon as they are full.

    Args:
        buckets: (M,) int bucket of each image.
        batch_size: divides M.

    Returns:
        (M,) int64, a permutation.
    """
    order = np.argsort(buckets, kind="stable")
    counts = np.bincount(buckets)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    full = rank < np.repeat(counts // batch_size * batch_size, counts)
    batches = np.concatenate([order[full], order[~full]]).reshape(-1, batch_size)
    return batches[np.argsort(batches.max(axis=1))].ravel()


def padding_share(sizes: np.ndarray, batch_size: int, divisibility: int = 32) -> float:
    """Return the share of the pixels of padded batches that belongs to no image, in [0, 1).

    Args:
        sizes: (M, 2) height and width of the images in the order of their batches.
        batch_size: divides M.
        divisibility: of the padded height and width.
    """
    padded = -(-sizes.reshape(-1, batch_size, 2).max(axis=1) // divisibility) * divisibility
    return 1 - float(sizes.prod(axis=1).sum() / (batch_size * padded.prod(axis=1).sum()))
