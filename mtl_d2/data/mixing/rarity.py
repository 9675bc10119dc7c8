"""How often an image comes in an epoch, by how rare its classes are and whether it has objects at all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils import comm

from ..class_counts import own_semantic_pixels, thing_ids
from ..labels import has_objects, is_labelled
from .settings import rarity_kinds

Record = Mapping[str, Any]
Classes = Sequence[int] | np.ndarray | None


def image_factors(cfg: CfgNode, records: Sequence[Record]) -> np.ndarray:
    """Return how often each image comes in an epoch, (N,) float64: ones where no key asks for anything else.

    Args:
        cfg: reads DATALOADER.REPEAT_THRESHOLD (Detectron2's), DATALOADER.MTL, MODEL.MTL.TASKS,
            INPUT.MTL.IMAGE_LABELS and MODEL.SEM_SEG_HEAD.IGNORE_VALUE.
        records: of the images.
    """
    mtl = cfg.DATALOADER.MTL
    rare, frequent = cfg.DATALOADER.REPEAT_THRESHOLD, mtl.UNDERSAMPLE_FREQUENT
    factors = np.ones(len(records))
    if rare > 0 or frequent > 0:
        by_kind = np.stack([rarity_factors(classes, rare, frequent) for classes in _classes_by_kind(cfg, records)])
        factors = np.nan_to_num(np.fmax.reduce(by_kind), nan=1.0)
    if mtl.UNDERSAMPLE_EMPTY < 1:
        empty = np.array([is_labelled(record, "instance") and not has_objects(record) for record in records])
        factors = np.where(empty, factors * mtl.UNDERSAMPLE_EMPTY, factors)
    return factors


def _classes_by_kind(cfg: CfgNode, records: Sequence[Record]) -> list[Sequence[Classes]]:
    """The classes of each image, once for each kind of labels that count: ids of different kinds are not compared."""
    classes: dict[str, Callable[[], Sequence[Classes]]] = {
        "instances": lambda: [thing_ids(record) for record in records],
        "image_labels": lambda: [record.get("image_labels") for record in records],
        "sem_seg": lambda: sem_seg_classes(records, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE),
    }
    return [classes[kind]() for kind in rarity_kinds(cfg)]


def rarity_factors(classes: Sequence[Classes], rare: float, frequent: float = 0.0) -> np.ndarray:
    """Return the factor of each image: that of the rarest of its classes, NaN for an image without a class.

    With f(c) the share of the labelled images that have class c, a class below the threshold t is repeated
    r(c) = max(1, sqrt(t / f(c))) times ("LVIS: A Dataset for Large Vocabulary Instance Segmentation", Gupta et al.
    2019, appendix B.2), and one above the threshold u is kept in a share min(1, sqrt(u / f(c))), as frequent words in
    "Distributed Representations of Words and Phrases and their Compositionality" (Mikolov et al. 2013, equation 5).

    Args:
        classes: of each image; None where it is not labelled.
        rare: t; 0 for no repetition.
        frequent: u, at least t; 0 for no thinning.
    """
    present = [np.unique(np.asarray(ids, np.int64)) if ids is not None else np.empty(0, np.int64) for ids in classes]
    image = np.repeat(np.arange(len(present)), [len(ids) for ids in present])
    ids = np.concatenate([np.empty(0, np.int64), *present])
    labelled = sum(labels is not None for labels in classes)
    frequency = np.maximum(np.bincount(ids), 1) / max(labelled, 1)  # 1: a class that no image has acts on none
    by_class = np.maximum(1, np.sqrt(rare / frequency))
    if frequent > 0:
        by_class *= np.minimum(1, np.sqrt(frequent / frequency))
    factors = np.full(len(present), np.nan)
    np.fmax.at(factors, image, by_class[ids])
    return factors


def sem_seg_classes(records: Sequence[Record], ignore_value: int) -> list[np.ndarray | None]:
    """Return the ids in each image's semantic map, None without one; the ranks share the reading of the files.

    A file that cannot be read has none: the training replaces its image.
    """
    num_ranks = comm.get_world_size()
    mine = own_semantic_pixels(records, ignore_value)
    parts = comm.all_gather([None if pixels is None else np.flatnonzero(pixels) for pixels in mine])
    return [parts[i % num_ranks][i // num_ranks] for i in range(len(records))]
