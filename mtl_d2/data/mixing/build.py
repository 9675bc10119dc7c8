"""From a config and the records of its datasets to the mixture that batches are drawn from."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode

from ..labels import label_table, task_labels
from ..schema import DatasetError
from .mixture import Mixture
from .quota import needed_images
from .rarity import image_factors
from .report import describe_batches, describe_datasets, describe_padding
from .settings import check_settings
from .shares import Margin, apportion, shares_with_minimum
from .sizes import input_sizes, size_buckets
from .stream import ImageStream

logger = logging.getLogger(__name__)

ROUND_IMAGES = 4096  # at least so many images form a round: shares are met to this precision


class _Groups(NamedTuple):
    """The images that the settings tell apart, by dataset and by labels."""

    streams: list[ImageStream]
    weights: np.ndarray  # (S,) sum of the factors of a group's images
    dataset: np.ndarray  # (S,) of a group's first image, which is of all its images where it matters
    rated: np.ndarray  # (S, R) whether it is labelled for the tasks of TASK_RATIOS
    carriers: np.ndarray  # (S, T) whether it is labelled for the tasks of the quota


def build_mixture(
    cfg: CfgNode, records: Sequence[Mapping[str, Any]], dataset_ids: np.ndarray, batch_size: int
) -> Mixture:
    """Return the global batches that DATALOADER.MTL asks for, and log what will be in them.

    Args:
        cfg: reads DATALOADER, DATASETS.TRAIN, INPUT, MODEL.MTL.TASKS and SEED.
        records: of all images.
        dataset_ids: (N,) which of DATASETS.TRAIN an image is of.
        batch_size: of the global batch, in images.

    Raises:
        ValueError: a value is out of its range; DatasetError: no mixture of the images has what is asked for.
    """
    check_settings(cfg)
    mtl = cfg.DATALOADER.MTL
    keys = task_labels(cfg)
    tasks = [task for task in cfg.MODEL.MTL.TASKS if task in keys]
    labels = label_table(records, tasks, keys)
    quota = _quota_labels(labels, tasks, mtl.TASK_QUOTA_STEPS, batch_size)
    rated = labels[:, [tasks.index(task) for task in mtl.TASK_RATIOS]]
    groups = _group(cfg, image_factors(cfg, records), dataset_ids, rated, quota)
    sizes = input_sizes(cfg, records) if mtl.SIZE_BUCKETS else None
    mixture = Mixture(
        groups.streams,
        _counts(cfg, groups, batch_size),
        batch_size,
        seed=cfg.SEED,
        buckets=None if sizes is None else size_buckets(sizes, mtl.SIZE_BUCKETS),
        labels=quota if quota.shape[1] else None,
        quota_steps=mtl.TASK_QUOTA_STEPS,
    )
    logger.info("%s", describe_datasets(cfg.DATASETS.TRAIN, tasks, dataset_ids, labels))
    logger.info("%s", describe_batches(mixture, cfg.DATASETS.TRAIN, tasks, dataset_ids, labels))
    if sizes is not None:
        logger.info("%s", describe_padding(mixture, sizes))
    return mixture


def _quota_labels(labels: np.ndarray, tasks: Sequence[str], steps: int, batch_size: int) -> np.ndarray:
    """Return the columns of ``labels`` that a quota acts on: tasks that some of the images are labelled for."""
    if not steps:
        return labels[:, :0]
    for task, count in zip(tasks, labels.sum(axis=0), strict=True):
        if count == 0:
            raise DatasetError(
                f"DATALOADER.MTL.TASK_QUOTA_STEPS: found no image that is labelled for {task!r}, expected one; remove "
                "the task from MODEL.MTL.TASKS, or add a dataset with such labels."
            )
    partial = labels[:, ~labels.all(axis=0)]
    if partial.shape[1] > batch_size:
        raise DatasetError(
            f"SOLVER.IMS_PER_BATCH: found {batch_size}, expected at least {partial.shape[1]} with "
            "DATALOADER.MTL.TASK_QUOTA_STEPS, an image for each task that is not labelled in all images."
        )
    return partial


def _group(cfg: CfgNode, factors: np.ndarray, dataset_ids: np.ndarray, rated: np.ndarray, quota: np.ndarray) -> _Groups:
    by_dataset = dataset_ids if cfg.DATALOADER.MTL.DATASET_RATIOS else np.zeros_like(dataset_ids)
    traits = np.column_stack([by_dataset, rated, quota])
    groups = np.unique(traits, axis=0, return_inverse=True)[1].reshape(-1)
    members = [np.flatnonzero(groups == group) for group in range(int(groups.max()) + 1)]
    streams = [
        ImageStream(images, factors[images], seed=cfg.SEED, branch=(group,) if len(members) > 1 else ())
        for group, images in enumerate(members)
    ]
    first = [images[0] for images in members]
    weights = np.bincount(groups, factors)
    return _Groups(streams, weights, by_dataset[first], rated[first], quota[first])


def _counts(cfg: CfgNode, groups: _Groups, batch_size: int) -> np.ndarray:
    """Return the number of images that a round takes from each group, (S,)."""
    mtl = cfg.DATALOADER.MTL
    every = max(mtl.TASK_QUOTA_STEPS, 1)
    batches = -(-max(ROUND_IMAGES, int(groups.weights.sum())) // (batch_size * every)) * every
    needs, total = needed_images(groups.carriers, batches // every), batches * batch_size
    margins: list[Margin] = []
    if mtl.DATASET_RATIOS:
        margins.append((groups.dataset, np.array(mtl.DATASET_RATIOS) / sum(mtl.DATASET_RATIOS)))
    for column, ratio in enumerate(mtl.TASK_RATIOS.values()):
        margins.append((groups.rated[:, column].astype(np.int64), np.array([1 - ratio, ratio])))
    try:
        shares = shares_with_minimum(groups.weights, margins, groups.carriers, needs / total)
        return apportion(shares, total, groups.carriers, needs)
    except ValueError as error:
        raise DatasetError(
            f"DATALOADER.MTL: found DATASET_RATIOS {list(mtl.DATASET_RATIOS)}, TASK_RATIOS {dict(mtl.TASK_RATIOS)} and "
            f"TASK_QUOTA_STEPS {mtl.TASK_QUOTA_STEPS} with {batch_size} images a batch, expected what a mixture of the "
            "images can have together (an image brings all its labels); relax one of them."
        ) from error
