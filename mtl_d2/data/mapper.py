"""From a dataset record to the model's input: image read and augmented, targets made after that."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager

from ..structures import LabelMapError, read_label_map, read_semantic_ids
from ..structures.box_masks import BoxMask
from .images import READ_ERRORS, BrokenSampleError, read_image, unreadable
from .masks import transform_masks
from .targets import (
    EDGE_LABELS,
    check_edge_source,
    derive_edges,
    has_derived_edges,
    has_masks,
    instance_target,
    transform_edges,
)
from .transforms import build_augmentations

LABEL_KEYS = ("annotations", "sem_seg_file_name", "sem_seg_id_map", "edge_file_name", "edge_source")
ExtraTarget = Callable[[dict[str, Any], T.TransformList], dict[str, Any]]


class MultiTaskDatasetMapper:
    """Map a dataset record to the model's input, with the targets of the tasks it is labelled for.

    A label key that the record lacks is absent from the result; a label that is there but empty (no
    objects) is there and empty. Masks are bitmaps whatever their source. Augmentations draw from numpy's
    global generator.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        tasks: Sequence[str],
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = True,
        recompute_boxes: bool = False,
        num_thing_classes: int | None = None,
        num_sem_classes: int | None = None,
        ignore_value: int = 255,
        extra_targets: Sequence[ExtraTarget] = (),
    ) -> None:
        """
        Args:
            is_train: whether targets are made; without, the result has the image and the record's own fields.
            tasks: the tasks whose targets are made.
            augmentations: applied to the image and to all its labels alike.
            image_format: of Detectron2's ``read_image``, such as "BGR".
            use_instance_mask: whether instances get ``gt_masks``.
            recompute_boxes: take boxes from the masks where an image has masks; right after cropping.
            num_thing_classes: bound on category ids, unchecked where None.
            num_sem_classes: bound on semantic ids, unchecked where None.
            ignore_value: void in semantic maps.
            extra_targets: for tasks of the user's own: each takes the record and the transforms that were
                applied to the image (``apply_image``, ``apply_segmentation``), and returns entries of the
                model's input.
        """
        self.is_train = is_train
        self.tasks = tuple(tasks)
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.recompute_boxes = recompute_boxes
        self.num_thing_classes = num_thing_classes
        self.num_sem_classes = num_sem_classes
        self.ignore_value = ignore_value
        self.extra_targets = tuple(extra_targets)
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).info("Augmentations in %s: %s", mode, augmentations)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        return {
            "is_train": is_train,
            "tasks": cfg.MODEL.MTL.TASKS,
            "augmentations": build_augmentations(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "recompute_boxes": cfg.INPUT.CROP.ENABLED and cfg.MODEL.MASK_ON and is_train,
            "num_thing_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "num_sem_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """
        Args:
            record: of one image, in Detectron2's dataset form; left as it is.

        Returns:
            The record's fields but its labels, with "image": (3, H, W) uint8 and, in training and where
            labelled, "instances": Instances; "sem_seg": (H, W) int64; "edge": (H, W) int64 in {0, 1, 255}.

        Raises:
            BrokenSampleError: a file is unreadable, of another size than the record says, or holds a class
                that the config does not know.
            ValueError: edges are to be derived from a label that the record lacks.
        """
        item = {key: value for key, value in record.items() if key not in LABEL_KEYS}
        image = self._read_image(item)
        needed = self._labels_needed(record) if self.is_train else set()
        sem_seg = self._read_sem_seg(record) if "sem_seg_file_name" in needed else None
        source_size = image.shape[:2]
        aug_input = T.AugInput(image, sem_seg=sem_seg)
        transforms = self.augmentations(aug_input)
        image, sem_seg = aug_input.image, aug_input.sem_seg
        item["image"] = torch.from_numpy(np.stack(cv2.split(image)))  # (3, H, W); a transposed copy is slower
        if not self.is_train:
            return item

        size = image.shape[:2]
        masks: list[BoxMask] | None = None
        crowds: list[BoxMask] = []
        if "masks" in needed:
            masks, crowds = self._transform_masks(record, transforms, source_size, size)
        if "instance" in self.tasks and "annotations" in record:
            item["instances"] = self._instances(record, masks, transforms, size)
        if "sem_seg" in self.tasks and sem_seg is not None:
            item["sem_seg"] = torch.from_numpy(sem_seg.astype(np.int64))
        if "edge_file_name" in needed:
            name = record["edge_file_name"]
            edges = _read_label(name, record, partial(read_label_map, name))
            item["edge"] = _to_long(transform_edges(edges, transforms, size))
        elif "edge" in needed:
            uses_sem_seg = "sem_seg_file_name" in EDGE_LABELS[record["edge_source"]]
            uses_masks = "annotations" in EDGE_LABELS[record["edge_source"]]
            edge = derive_edges(
                masks if uses_masks and masks else [],
                crowds if uses_masks else [],
                sem_seg if uses_sem_seg else None,
                size,
                self.ignore_value,
            )
            item["edge"] = _to_long(edge)
        for extra_target in self.extra_targets:
            item.update(extra_target(record, transforms))
        return item

    def _labels_needed(self, record: dict[str, Any]) -> set[str]:
        """Return what the tasks have to read: label keys, "masks", and "edge" where edges are derived."""
        needed = set()
        if "instance" in self.tasks and "annotations" in record:
            needed.add("annotations")
            if self.use_instance_mask and has_masks(record["annotations"]):
                needed.add("masks")
        if "sem_seg" in self.tasks and "sem_seg_file_name" in record:
            needed.add("sem_seg_file_name")
        if "edge" in self.tasks and "edge_file_name" in record:
            needed.add("edge_file_name")
        elif "edge" in self.tasks and has_derived_edges(record):
            check_edge_source(record)
            needed.update(EDGE_LABELS[record["edge_source"]], ["edge"])
            if "annotations" in EDGE_LABELS[record["edge_source"]]:
                needed.add("masks")
        return needed

    def _read_image(self, item: dict[str, Any]) -> np.ndarray:
        name = item["file_name"]
        image = read_image(name, self.image_format)
        try:
            utils.check_image_size(item, image)
        except utils.SizeMismatchError as error:
            raise _wrong_size(name, image, item) from error
        return image

    def _read_sem_seg(self, record: dict[str, Any]) -> np.ndarray:
        name = record["sem_seg_file_name"]
        sem_seg = _read_label(name, record, partial(read_semantic_ids, record))
        count = self.num_sem_classes
        if count is not None:
            largest = int(np.max(sem_seg, where=sem_seg != self.ignore_value, initial=0))
            if largest >= count:
                raise BrokenSampleError(
                    f"{name}: found semantic label {largest}, expected 0 to {count - 1} or "
                    f"{self.ignore_value} (ignored); correct the map or MODEL.SEM_SEG_HEAD.NUM_CLASSES."
                )
        return sem_seg.astype(np.uint8, copy=False)

    def _transform_masks(
        self,
        record: dict[str, Any],
        transforms: T.TransformList,
        source_size: tuple[int, int],
        size: tuple[int, int],
    ) -> tuple[list[BoxMask], list[BoxMask]]:
        """Return the masks of the objects, and those of the crowds if edges are derived (else none)."""
        objects = _without_crowds(record["annotations"])
        crowds = [a for a in record["annotations"] if a.get("iscrowd", 0)] if "edge" in self.tasks else []
        segmentations = [annotation["segmentation"] for annotation in [*objects, *crowds]]
        try:
            masks = transform_masks(segmentations, transforms, source_size, size)
        except ValueError as error:
            raise BrokenSampleError(f"{record['file_name']}: {error}; correct its annotations.") from error
        return masks[: len(objects)], masks[len(objects) :]

    def _instances(
        self,
        record: dict[str, Any],
        masks: list[BoxMask] | None,
        transforms: T.TransformList,
        size: tuple[int, int],
    ) -> Instances:
        objects = _without_crowds(record["annotations"])
        for annotation in objects:
            category, count = annotation["category_id"], self.num_thing_classes
            if count is not None and not 0 <= category < count:
                raise BrokenSampleError(
                    f"{record['file_name']}: found category_id {category}, expected 0 to {count - 1}; "
                    "correct its annotations or MODEL.ROI_HEADS.NUM_CLASSES."
                )
        masks = masks if self.use_instance_mask else None
        return instance_target(objects, masks, transforms, size, self.recompute_boxes)


def _without_crowds(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]


def _read_label(name: str, record: dict[str, Any], read: Callable[..., np.ndarray]) -> np.ndarray:
    """Return the ids of a label map, (H, W)."""
    try:
        label = read(open_file=PathManager.open)
    except LabelMapError as error:
        raise BrokenSampleError(str(error)) from error
    except READ_ERRORS as error:
        raise unreadable(name, error) from error
    if label.shape != (record.get("height", label.shape[0]), record.get("width", label.shape[1])):
        raise _wrong_size(name, label, record)
    return label


def _to_long(label: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(label.astype(np.int64))


def _wrong_size(name: str, found: np.ndarray, record: dict[str, Any]) -> BrokenSampleError:
    return BrokenSampleError(
        f"{name}: found {found.shape[1]} x {found.shape[0]} pixels (width x height), expected "
        f"{record['width']} x {record['height']}; correct the file or its record."
    )
