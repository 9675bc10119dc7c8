"""How often an image comes in an epoch, by how rare its classes are and whether it has objects at all."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils import comm
from tqdm import tqdm

from ..images import BrokenSampleError
from ..label_maps import read_sem_seg
from ..labels import has_objects, is_labelled

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]
Classes = Sequence[int] | np.ndarray | None
_THREADS = 8  # the work is waiting for a disk


def image_factors(cfg: CfgNode, records: Sequence[Record]) -> np.ndarray:
    """Return how often each image comes in an epoch, (N,) float64: ones where no key asks for anything else.

    Args:
        cfg: reads DATALOADER.REPEAT_THRESHOLD (Detectron2's), DATALOADER.MTL, MODEL.MTL.TASKS and
            MODEL.SEM_SEG_HEAD.IGNORE_VALUE.
        records: of the images.

    Raises:
        ValueError: a threshold without a kind of classes that it could act on.
    """
    mtl, tasks = cfg.DATALOADER.MTL, cfg.MODEL.MTL.TASKS
    rare, frequent = cfg.DATALOADER.REPEAT_THRESHOLD, mtl.UNDERSAMPLE_FREQUENT
    factors = np.ones(len(records))
    if rare > 0 or frequent > 0:
        kinds: list[Sequence[Classes]] = []
        if "instance" in tasks:
            kinds.append([_thing_classes(record) for record in records])
        if mtl.REPEAT_SEM_SEG and "sem_seg" in tasks:
            kinds.append(sem_seg_classes(records, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE))
        if not kinds:
            raise ValueError(
                f"DATALOADER.REPEAT_THRESHOLD, DATALOADER.MTL.UNDERSAMPLE_FREQUENT: found {rare}, {frequent} with the "
                f"tasks {list(tasks)}, expected the task instance, or sem_seg with DATALOADER.MTL.REPEAT_SEM_SEG."
            )
        by_kind = np.stack([rarity_factors(classes, rare, frequent) for classes in kinds])
        factors = np.nan_to_num(np.fmax.reduce(by_kind), nan=1.0)
    if mtl.UNDERSAMPLE_EMPTY < 1 and "instance" in tasks:
        empty = np.array([is_labelled(record, "instance") and not has_objects(record) for record in records])
        factors = np.where(empty, factors * mtl.UNDERSAMPLE_EMPTY, factors)
    return factors


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
    rank, num_ranks = comm.get_rank(), comm.get_world_size()
    mine = range(rank, len(records), num_ranks)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda i: _sem_seg_ids(records[i], ignore_value), mine)
        bar = tqdm(found, "Classes of the semantic maps", len(mine), unit="image", disable=True if rank else None)
        parts = comm.all_gather(list(bar))
    return [parts[i % num_ranks][i // num_ranks] for i in range(len(records))]


def _sem_seg_ids(record: Record, ignore_value: int) -> np.ndarray | None:
    if not is_labelled(record, "sem_seg"):
        return None
    try:
        label = read_sem_seg(record, None, ignore_value)
    except BrokenSampleError as error:
        logger.warning("%s", error)
        return np.empty(0, np.int64)
    return np.setdiff1d(np.flatnonzero(np.bincount(label.ravel())), [ignore_value])


def _thing_classes(record: Record) -> list[int] | None:
    if not is_labelled(record, "instance"):
        return None
    return [annotation["category_id"] for annotation in record["annotations"] if not annotation.get("iscrowd", 0)]
