"""Class weights that a config names by a word: counted once from the training set, before a network is built."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from ..data import DatasetError
from ..data.build import get_records
from ..data.class_counts import ClassCounts, class_weights, count_image_labels, count_objects, count_pixels
from ..data.labels import task_labels
from ..structures.image_labels import image_label_source

logger = logging.getLogger(__name__)

FILE = "class_counts.json"
_HEADS = {"sem_seg": "SEM_SEG_HEAD", "instance": "ROI_BOX_HEAD", "classification": "CLASSIFICATION_HEAD"}


def with_class_weights(cfg: CfgNode, *, resume: bool = False) -> CfgNode:
    """Return cfg with numbers in the place of the words of CLASS_WEIGHTS; cfg itself where there is no word.

    The labels of cfg.DATASETS.TRAIN are counted as they are, whatever the sampler repeats or the mapper crops. The
    counts are kept in OUTPUT_DIR/class_counts.json, from which a resumed run takes them: its weights are those that it
    began with. The background's weight is the mean one of an object: foreground and background stay balanced as the
    sample of regions makes them. Call it on every rank.

    Args:
        cfg: reads MODEL.MTL.{SEM_SEG_HEAD, ROI_BOX_HEAD, CLASSIFICATION_HEAD}.CLASS_WEIGHTS, of the tasks that are
            trained, MODEL.MTL.CLASS_WEIGHTS_BETA, the numbers of classes, INPUT.MTL.IMAGE_LABELS, DATASETS.TRAIN and
            OUTPUT_DIR.
        resume: take the counts of the earlier run, if there are such.

    Raises:
        DatasetError: an unknown word, or nothing to count; the key is named.
    """
    words = {
        task: word
        for task, head in _HEADS.items()
        if task in cfg.MODEL.MTL.TASKS and isinstance(word := cfg.MODEL.MTL[head].CLASS_WEIGHTS, str)
    }
    if not words:
        return cfg
    counts = _counts(cfg, list(words), resume)
    resolved = cfg.clone()
    resolved.defrost()
    for task, word in words.items():
        weights = _weights(cfg, task, word, counts[task])
        resolved.MODEL.MTL[_HEADS[task]].CLASS_WEIGHTS = weights
        logger.info("Class weights of %s, %r: %s", task, word, _named(cfg, task, weights))
    resolved.freeze()
    return resolved


def _weights(cfg: CfgNode, task: str, word: str, counts: ClassCounts) -> list[float]:
    unit = "images" if task == "sem_seg" else "samples"
    try:
        weights = class_weights(counts, word, beta=cfg.MODEL.MTL.CLASS_WEIGHTS_BETA, unit=unit)
    except ValueError as error:
        raise DatasetError(f"MODEL.MTL.{_HEADS[task]}.CLASS_WEIGHTS: {error}") from error
    if task == "instance":
        weights = np.append(weights, np.average(weights, weights=counts.samples))
    return weights.tolist()


def _counts(cfg: CfgNode, tasks: Sequence[str], resume: bool) -> dict[str, ClassCounts]:
    """Of each task; from the earlier run's file, or counted and written to it."""
    path = os.path.join(cfg.OUTPUT_DIR, FILE)
    counters = _counters(cfg)
    about = {"datasets": list(cfg.DATASETS.TRAIN)}
    earlier = comm.all_gather(_read(path, about) if resume and comm.is_main_process() else {})[0]
    if set(tasks) <= set(earlier):
        return {task: ClassCounts(*map(np.array, earlier[task])) for task in tasks}
    records = get_records(cfg.DATASETS.TRAIN, tasks=cfg.MODEL.MTL.TASKS, labels=task_labels(cfg))
    counts = {task: counters[task](records) for task in tasks}
    if comm.is_main_process():
        _write(path, about, counts)
    return counts


def _counters(cfg: CfgNode) -> dict[str, Callable[[list[dict[str, Any]]], ClassCounts]]:
    semantic = cfg.MODEL.SEM_SEG_HEAD
    count, source = cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES, cfg.INPUT.MTL.IMAGE_LABELS
    return {
        "sem_seg": lambda records: count_pixels(records, semantic.NUM_CLASSES, semantic.IGNORE_VALUE),
        "instance": lambda records: count_objects(records, cfg.MODEL.ROI_HEADS.NUM_CLASSES),
        "classification": lambda records: count_image_labels(records, count, source, semantic.IGNORE_VALUE),
    }


def _read(path: str, about: Mapping[str, Any]) -> dict[str, list[list[int]]]:
    """The counts of the file; {} where it is of other datasets, or cannot be read: then they are counted anew."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        return content["counts"] if content["about"] == about else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be read (%s): the classes are counted anew.", path, error)
        return {}


def _write(path: str, about: Mapping[str, Any], counts: Mapping[str, ClassCounts]) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    tables = {task: [x.tolist() for x in (c.samples, c.images, c.beside)] for task, c in counts.items()}
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"about": about, "rows": ["samples", "images", "beside"], "counts": tables}, file, indent=1)


def _named(cfg: CfgNode, task: str, weights: Sequence[float]) -> str:
    """For the log: the names of the classes are those of the first dataset that has such labels."""
    fields = {"sem_seg": "stuff_classes", "instance": "thing_classes"}
    field = fields[task] if task in fields else image_label_source(cfg.INPUT.MTL.IMAGE_LABELS).classes
    found = (MetadataCatalog.get(name).get(field) for name in cfg.DATASETS.TRAIN)
    names: list[str] = next(filter(None, found), [])
    names = [*names, "background"] if task == "instance" else names
    if len(names) != len(weights):
        names = [str(i) for i in range(len(weights))]
    return ", ".join(f"{name} {weight:.3g}" for name, weight in zip(names, weights, strict=True))
