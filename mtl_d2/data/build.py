"""Data loaders for training and testing, and which records they hold."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset, MetadataCatalog
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader

from .copy_paste import with_copy_paste
from .labels import TASK_LABELS, TaskLabels, has_objects, label_table, labelling_tasks, may_be_labelled, task_labels
from .mapper import MultiTaskDatasetMapper
from .mixing import build_mixture
from .preflight import load_records
from .sampler import MultiTaskBatchSampler
from .seeded import SeededDataset
from .targets import check_edge_source

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Mapper = Callable[[Record], dict[str, Any]]

# What the datasets of one training must agree on.
_SHARED_METADATA = ("thing_classes", "stuff_classes", "stuff_ids", "ignore_label", "image_label_classes")


def get_records(
    names: Sequence[str],
    *,
    tasks: Sequence[str] | None = None,
    filter_empty: bool = False,
    labels: TaskLabels = TASK_LABELS,
) -> list[Record]:
    """Return the records of the named datasets, one after the other.

    Args:
        names: of registered datasets.
        tasks: leave out the records that are labelled for none of them; None keeps all. A task that this
            package does not know may be labelled by any key: then nothing is left out.
        filter_empty: leave out images that are labelled for instances and have none (or only crowds), where
            "instance" is the only task. For every other task, an image without objects is an example as good
            as any; an image that is not labelled for instances is not empty.
        labels: which keys label a task, see :func:`mtl_d2.data.labels.task_labels`.

    Raises:
        ValueError: no dataset (or an unknown one) or no record, class names that differ, or edges without their
            source.
    """
    return [record for _, record in _numbered_records(names, tasks, filter_empty, labels)]


def _numbered_records(
    names: Sequence[str],
    tasks: Sequence[str] | None,
    filter_empty: bool,
    labels: TaskLabels = TASK_LABELS,
    edge_source: str = "",
) -> list[tuple[int, Record]]:
    """Return what :func:`get_records` does, each record with the number of its dataset.

    With ``edge_source``, edges are to be derived from that instead of from what the records say.
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"DATASETS: found {names!r}, expected a sequence of names of registered datasets.")
    records = [(number, record) for number, name in enumerate(names) for record in load_records(name)]
    _check_metadata(names)  # after loading, which is what fills in some datasets' metadata
    found = len(records)
    if tasks is not None:
        records = [numbered for numbered in records if may_be_labelled(numbered[1], tasks, labels)]
        if len(records) < found:
            logger.info("Left out %d of %d images: no label for %s", found - len(records), found, list(tasks))
        if filter_empty and tuple(tasks) == ("instance",):
            with_objects = [numbered for numbered in records if has_objects(numbered[1])]
            logger.info("Left out %d images without objects", len(records) - len(with_objects))
            records = with_objects
        if "edge" in labelling_tasks(tasks):
            for _, record in records:
                check_edge_source(record, edge_source)
    if not found:
        raise ValueError(f"Datasets {', '.join(names)}: found no image in them; check their files.")
    if not records:
        raise ValueError(
            f"Datasets {', '.join(names)}: none of {found} images can be used for the tasks "
            f"{list(tasks or [])}; see MODEL.MTL.TASKS."
        )
    return records


def build_multitask_train_loader(cfg: CfgNode, *, mapper: Mapper | None = None, start_batch: int = 0) -> DataLoader:
    """Return an endless iterable of this rank's batches, each a list of model inputs.

    Batch k is a function of cfg and k alone: the number of workers does not matter, and a training that
    goes on after k batches passes ``start_batch=k``. The global batch has SOLVER.IMS_PER_BATCH images, shared
    equally among the ranks. Which images it has is what DATALOADER.MTL says. Every rank has to call this.

    Args:
        cfg: reads DATASETS.TRAIN, DATALOADER, SOLVER.IMS_PER_BATCH, SEED, MODEL.MTL.TASKS and what the
            mapper reads.
        mapper: record -> model input; by default MultiTaskDatasetMapper(cfg, is_train=True).
        start_batch: number of batches that were consumed before.

    Raises:
        ValueError: SEED is negative, the ranks cannot share a batch equally, or no mixture of the images is what
            DATALOADER.MTL asks for.
    """
    if cfg.SEED < 0:
        raise ValueError(f"SEED: found {cfg.SEED}, expected 0 or more; draw one before the loader is built.")
    tasks = tuple(cfg.MODEL.MTL.TASKS)
    images_per_rank = _images_per_rank(cfg.SOLVER.IMS_PER_BATCH)
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    edge_source = cfg.INPUT.MTL.EDGE.SOURCE
    keys = task_labels(cfg)
    numbered = _numbered_records(cfg.DATASETS.TRAIN, tasks, filter_empty, keys, edge_source)
    records = [record for _, record in numbered]
    dataset_ids = np.array([number for number, _ in numbered])
    sampler = MultiTaskBatchSampler(
        len(records),
        images_per_rank,
        seed=cfg.SEED,
        rank=comm.get_rank(),
        num_ranks=comm.get_world_size(),
        start_batch=start_batch,
        batches=build_mixture(cfg, records, dataset_ids, cfg.SOLVER.IMS_PER_BATCH),
    )
    # A broken image is replaced by one of the same labels, or a batch might lose the only one of a rare task.
    labels = label_table(records, [task for task in tasks if task in keys], keys)
    groups = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    mapper = with_copy_paste(cfg, mapper or MultiTaskDatasetMapper(cfg, is_train=True), records)
    _end_opencv_threads()
    return DataLoader(
        SeededDataset(DatasetFromList(records, copy=False), mapper, seed=cfg.SEED, groups=groups),
        batch_sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
        worker_init_fn=_single_threaded,
        # The loader draws a base seed when it starts: from here, not from the generator of the training step.
        generator=torch.Generator().manual_seed(cfg.SEED),
    )


def build_multitask_test_loader(cfg: CfgNode, dataset_name: str, *, mapper: Mapper | None = None) -> DataLoader:
    """Return this rank's part of a dataset in order, in batches of one: a list of one model input, no labels.

    Args:
        cfg: reads DATALOADER.NUM_WORKERS and what the mapper reads.
        dataset_name: of a registered dataset.
        mapper: record -> model input; by default MultiTaskDatasetMapper(cfg, is_train=False).
    """
    records = get_records([dataset_name])
    mapper = mapper or MultiTaskDatasetMapper(cfg, is_train=False)
    _end_opencv_threads()
    return DataLoader(
        MapDataset(DatasetFromList(records, copy=False), mapper),
        sampler=InferenceSampler(len(records)),
        batch_size=1,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
        worker_init_fn=_single_threaded,
        generator=torch.Generator(),
    )


def _images_per_rank(images_per_batch: int) -> int:
    num_ranks = comm.get_world_size()
    if images_per_batch < 1 or images_per_batch % num_ranks:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH: found {images_per_batch}, expected a multiple of the number of "
            f"processes, {num_ranks}."
        )
    return images_per_batch // num_ranks


def _check_metadata(names: Sequence[str]) -> None:
    for key in _SHARED_METADATA:
        known = [name for name in names if MetadataCatalog.get(name).get(key) is not None]
        check_metadata_consistency(key, known)


def _as_list(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(samples)


def _end_opencv_threads() -> None:
    # Before workers are forked, not in them: a process hangs when it ends threads that it never had.
    cv2.setNumThreads(0)


def _single_threaded(worker: int) -> None:
    # Workers are the parallelism: threads inside of each would only contend for the same cores.
    torch.set_num_threads(1)
