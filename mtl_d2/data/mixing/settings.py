"""Checks of the config node DATALOADER.MTL."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from detectron2.config import CfgNode

from ..labels import TASK_LABELS

_KEY = "DATALOADER.MTL"


def check_settings(cfg: CfgNode) -> None:
    """Raise ValueError for a value of DATALOADER.MTL that is out of its range or cannot act, naming the key."""
    mtl = cfg.DATALOADER.MTL
    _check_dataset_ratios(mtl.DATASET_RATIOS, cfg.DATASETS.TRAIN)
    _check_task_ratios(mtl.TASK_RATIOS, cfg.MODEL.MTL.TASKS)
    for name in ("TASK_QUOTA_STEPS", "SIZE_BUCKETS"):
        if mtl[name] < 0:
            raise ValueError(f"{_KEY}.{name}: found {mtl[name]}, expected a number from 1, or 0 for none.")
    if mtl.SIZE_BUCKETS and cfg.INPUT.MTL.LSJ.ENABLED:
        raise ValueError(
            f"{_KEY}.SIZE_BUCKETS: found {mtl.SIZE_BUCKETS} with INPUT.MTL.LSJ.ENABLED, which gives all images the "
            "size INPUT.MTL.LSJ.SIZE; set SIZE_BUCKETS 0."
        )
    _check_empty(mtl.UNDERSAMPLE_EMPTY, cfg.MODEL.MTL.TASKS)
    _check_rarity(cfg)


def _check_rarity(cfg: CfgNode) -> None:
    mtl = cfg.DATALOADER.MTL
    rare, frequent = cfg.DATALOADER.REPEAT_THRESHOLD, mtl.UNDERSAMPLE_FREQUENT
    for key, threshold in (("DATALOADER.REPEAT_THRESHOLD", rare), (f"{_KEY}.UNDERSAMPLE_FREQUENT", frequent)):
        if not 0 <= threshold <= 1:
            raise ValueError(f"{key}: found {threshold}, expected a share of the images in [0, 1], 0 for none.")
    if 0 < frequent < rare:
        raise ValueError(
            f"{_KEY}.UNDERSAMPLE_FREQUENT: found {frequent}, expected at least DATALOADER.REPEAT_THRESHOLD, {rare}: "
            "no class is rare and frequent."
        )
    if (rare > 0 or frequent > 0) and not rarity_kinds(cfg):
        raise ValueError(
            f"DATALOADER.REPEAT_THRESHOLD, {_KEY}.UNDERSAMPLE_FREQUENT: found {rare}, {frequent} with the tasks "
            f"{list(cfg.MODEL.MTL.TASKS)}, expected the task instance, or classification with labels that are given or "
            f"of instances, or sem_seg with {_KEY}.REPEAT_SEM_SEG."
        )


def _check_empty(share: float, tasks: Sequence[str]) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"{_KEY}.UNDERSAMPLE_EMPTY: found {share}, expected a share in (0, 1].")
    if share < 1 and "instance" not in tasks:
        raise ValueError(
            f"{_KEY}.UNDERSAMPLE_EMPTY: found {share} with the tasks {list(tasks)}, expected the task instance, whose "
            "labels say which images have no object; set it to 1."
        )


def rarity_kinds(cfg: CfgNode) -> list[str]:
    """The kinds of labels whose classes are rare or frequent: of "instances", "image_labels" and "sem_seg"."""
    tasks = cfg.MODEL.MTL.TASKS
    image_labels = cfg.INPUT.MTL.IMAGE_LABELS if "classification" in tasks else None
    asked = {
        "instances": "instance" in tasks or image_labels == "instances",
        "image_labels": image_labels == "given",
        "sem_seg": "sem_seg" in tasks and cfg.DATALOADER.MTL.REPEAT_SEM_SEG,
    }
    return [kind for kind, is_asked in asked.items() if is_asked]


def _check_dataset_ratios(ratios: Sequence[Any], names: Sequence[str]) -> None:
    if not ratios:
        return
    if len(ratios) != len(names) or not all(_is_number(ratio) and ratio > 0 for ratio in ratios):
        raise ValueError(
            f"{_KEY}.DATASET_RATIOS: found {list(ratios)}, expected a number above 0 for each of DATASETS.TRAIN "
            f"({', '.join(names)}), or [] for their numbers of images."
        )


def _check_task_ratios(ratios: Mapping[str, Any], tasks: Sequence[str]) -> None:
    known = [task for task in tasks if task in TASK_LABELS]
    for task, ratio in ratios.items():
        if task not in known:
            raise ValueError(
                f"{_KEY}.TASK_RATIOS: found the task {task!r}, expected one of MODEL.MTL.TASKS whose labels are known "
                f"from the records, {known}."
            )
        if not (_is_number(ratio) and 0 < ratio <= 1):
            raise ValueError(f"{_KEY}.TASK_RATIOS.{task}: found {ratio!r}, expected a share of the images in (0, 1].")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
