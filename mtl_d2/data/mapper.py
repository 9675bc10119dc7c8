"""From a dataset record to the model's input: image read and augmented, targets made after that."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from ..structures import edge_consensus, edge_files
from ..structures.box_masks import BoxMask
from ..structures.edges import IGNORE
from .edge_label import EDGE_LABELS, EdgeLabel, has_derived_edges
from .image_labels import image_label_target
from .images import BrokenSampleError, contiguous, read_image, to_planes
from .keypoints import keypoint_flip_indices, transform_keypoints
from .label_maps import read_label, read_sem_seg, wrong_size
from .labelled_image import LabelledImage, source_boxes
from .labels import LABELS_OF, is_labelled
from .masks import tight_boxes, transform_masks
from .pixels import limit_pixels
from .targets import (
    check_edge_source,
    edge_target,
    fill_padding,
    has_masks,
    instance_target,
    transform_edges,
)
from .transforms import build_augmentations, inside_padding

LABEL_KEYS = ("annotations", "sem_seg_file_name", "sem_seg_id_map", "edge_file_name", "edge_source", "image_labels")
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
        pixels_per_class: int = 0,
        image_labels: str = "given",
        num_image_classes: int = 0,
        edge_label: EdgeLabel | None = None,
        keypoint_flips: Sequence[int] = (),
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
            pixels_per_class: labelled pixels that each class keeps in a semantic map; 0 for all.
            image_labels: what the labels of whole images are made from, see :func:`image_label_target`.
            num_image_classes: number of these labels.
            edge_label: of what edges are derived, and how wide they are; None for the records' own, thin.
            keypoint_flips: for each keypoint the one that it becomes in a mirror image.
            extra_targets: for tasks of the user's own: each takes the record and the transforms that were
                applied to the image (``apply_image``, ``apply_segmentation``), and returns entries of the
                model's input. Where the augmentations pad, ``apply_segmentation`` gives the ignore value.
        """
        self.is_train = is_train
        self.tasks = tuple(LABELS_OF.get(task, task) for task in tasks)
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.recompute_boxes = recompute_boxes
        self.num_thing_classes = num_thing_classes
        self.num_sem_classes = num_sem_classes
        self.ignore_value = ignore_value
        self.pixels_per_class = pixels_per_class
        self.image_labels = image_labels if "classification" in tasks else None
        self.num_image_classes = num_image_classes
        self.edge_label = edge_label or EdgeLabel()
        self.keypoint_flips = tuple(keypoint_flips)
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
            "recompute_boxes": (cfg.INPUT.CROP.ENABLED or cfg.INPUT.MTL.LSJ.ENABLED) and cfg.MODEL.MASK_ON and is_train,
            "num_thing_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "num_sem_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "pixels_per_class": cfg.MODEL.MTL.SEM_SEG_HEAD.PIXELS_PER_CLASS,
            "image_labels": cfg.INPUT.MTL.IMAGE_LABELS,
            "num_image_classes": cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES,
            "edge_label": EdgeLabel(**{key.lower(): value for key, value in cfg.INPUT.MTL.EDGE.items()}),
            "keypoint_flips": keypoint_flip_indices(cfg) if is_train and "keypoint" in cfg.MODEL.MTL.TASKS else (),
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """
        Args:
            record: of one image, in Detectron2's dataset form; left as it is.

        Returns:
            The record's fields but its labels, with "image": (3, H, W) uint8 and, in training and where
            labelled, "instances": Instances (and "crowd_boxes": (C, 4) float32 XYXY, where there are crowds);
            "keypoints": Keypoints (R, K, 3) of those R instances;
            "sem_seg": (H, W) int64; "edge": (H, W) int64 in {0, 1, 255};
            "image_labels": (K,) float32, 1 for a class in the image, 0 for one that is not, -1 for unknown.

        Raises:
            BrokenSampleError: a file is unreadable, of another size than the record says, or holds a class
                that the config does not know.
            ValueError: edges are to be derived from a label that the record lacks.
        """
        return self.targets(self.read(record))

    def read(self, record: dict[str, Any], *, with_masks: bool = False) -> LabelledImage:
        """Read and augment an image and the labels that the tasks need, the first half of a call.

        Args:
            record: see :meth:`__call__`.
            with_masks: read the objects and their masks whatever the tasks need, where the record has them.

        Raises:
            BrokenSampleError, ValueError: see :meth:`__call__`.
        """
        record = self.edge_label.apply_source(record)
        fields = {key: value for key, value in record.items() if key not in LABEL_KEYS}
        image = self._read_image(fields)
        needed = self._labels_needed(record, with_masks) if self.is_train else set()
        objects = self._objects(record) if "annotations" in needed else None
        boxes = None if objects is None else source_boxes(objects)
        sem_seg = None
        if "sem_seg_file_name" in needed:
            sem_seg = read_sem_seg(record, self.num_sem_classes, self.ignore_value)
        aug_input = T.AugInput(image, boxes=boxes, sem_seg=sem_seg)
        transforms = self.augmentations(aug_input)
        labelled = LabelledImage(
            record=record,
            fields=fields,
            transforms=transforms,
            image=contiguous(aug_input.image),
            objects=objects,
            sem_seg=None if aug_input.sem_seg is None else contiguous(aug_input.sem_seg),
            inside=inside_padding(transforms, image.shape[:2]),
        )
        if "masks" in needed:
            labelled.masks, labelled.crowds = self._masks(record, transforms, image.shape[:2], labelled.size)
        if objects is not None:
            labelled.boxes = self._boxes(aug_input.boxes, labelled)
            crowds = source_boxes(_crowds(record["annotations"]))
            labelled.crowd_boxes = _clipped(transforms.apply_box(crowds), labelled) if len(crowds) else None
            labelled.keypoints = self._keypoints(labelled)
        if "edge_file_name" in needed:
            drawn = [read_label(name, record) for name in edge_files(record)]
            moved = [transform_edges(edge, transforms, labelled.size) for edge in drawn]
            labelled.edge = edge_consensus(moved, self.edge_label.eta)
            fill_padding(labelled.edge, labelled.inside, IGNORE)
        return labelled

    def targets(self, labelled: LabelledImage) -> dict[str, Any]:
        """Make the model's input from what :meth:`read` returns, the second half of a call."""
        item = {**labelled.fields, "image": torch.from_numpy(to_planes(labelled.image))}
        if not self.is_train:
            return item
        if "instance" in self.tasks and labelled.objects is not None and labelled.boxes is not None:
            masks = labelled.masks if self.use_instance_mask else None
            found = instance_target(labelled.objects, labelled.boxes, masks, labelled.size, labelled.keypoints)
            item["instances"] = found
            if labelled.keypoints is not None:  # a label of its own: instances are the same with and without it
                item["keypoints"] = found.gt_keypoints
                found.remove("gt_keypoints")
            if labelled.crowd_boxes is not None:
                item["crowd_boxes"] = torch.from_numpy(labelled.crowd_boxes)
        if "sem_seg" in self.tasks and labelled.sem_seg is not None:
            item["sem_seg"] = self._sem_seg_target(labelled.sem_seg)
        edge = edge_target(labelled, self.ignore_value, self.edge_label) if "edge" in self.tasks else None
        if edge is not None:
            item["edge"] = torch.from_numpy(edge.astype(np.int64))
        if self.image_labels is not None:
            present = image_label_target(labelled, self.image_labels, self.num_image_classes, self.ignore_value)
            if present is not None:
                item["image_labels"] = torch.from_numpy(present)
        for extra_target in self.extra_targets:
            item.update(extra_target(labelled.record, labelled.transforms))
        return item

    @property
    def reads_objects(self) -> bool:
        """Whether a target is made from the objects, whatever their masks are for."""
        return "instance" in self.tasks or self.image_labels == "instances"

    def _sem_seg_target(self, sem_seg: np.ndarray) -> torch.Tensor:
        if self.pixels_per_class:
            sem_seg = limit_pixels(sem_seg, self.pixels_per_class, self.ignore_value)
        return torch.from_numpy(sem_seg.astype(np.int64))

    def _boxes(self, boxes: np.ndarray, labelled: LabelledImage) -> np.ndarray:
        """Return (N, 4) float32 boxes in the transformed image, clipped to what is not padding."""
        if self.recompute_boxes and self.use_instance_mask and labelled.masks is not None:
            return tight_boxes(labelled.masks)
        return _clipped(boxes, labelled)

    def _keypoints(self, labelled: LabelledImage) -> np.ndarray | None:
        if "keypoint" not in self.tasks or not is_labelled(labelled.record, "keypoint"):
            return None
        try:
            return transform_keypoints(
                labelled.objects or [], labelled.transforms, labelled.size, labelled.inside, self.keypoint_flips
            )
        except ValueError as error:
            raise BrokenSampleError(f"{labelled.record['file_name']}: {error}; correct its annotations.") from error

    def _objects(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        objects = _without_crowds(record["annotations"])
        count = self.num_thing_classes if "instance" in self.tasks else None
        for annotation in objects:
            category = annotation["category_id"]
            if count is not None and not 0 <= category < count:
                raise BrokenSampleError(
                    f"{record['file_name']}: found category_id {category}, expected 0 to {count - 1}; "
                    "correct its annotations or MODEL.ROI_HEADS.NUM_CLASSES."
                )
        return objects

    def _labels_needed(self, record: dict[str, Any], with_masks: bool) -> set[str]:
        """Return what the tasks have to read: label keys, and "masks"."""
        needed = set()
        if with_masks and "annotations" in record and has_masks(record["annotations"]):
            needed.update(["annotations", "masks"])
        if self.reads_objects and "annotations" in record:
            needed.add("annotations")
            # A crop may leave of an object a box without a pixel of it.
            if (self.use_instance_mask or self.image_labels == "instances") and has_masks(record["annotations"]):
                needed.add("masks")
        if ("sem_seg" in self.tasks or self.image_labels == "sem_seg") and "sem_seg_file_name" in record:
            needed.add("sem_seg_file_name")
        if "edge" in self.tasks and "edge_file_name" in record:
            needed.add("edge_file_name")
        elif "edge" in self.tasks and has_derived_edges(record):
            check_edge_source(record)
            needed.update(EDGE_LABELS[record["edge_source"]])
            if "annotations" in EDGE_LABELS[record["edge_source"]]:
                needed.add("masks")
        return needed

    def _read_image(self, item: dict[str, Any]) -> np.ndarray:
        name = item["file_name"]
        image = read_image(name, self.image_format)
        try:
            utils.check_image_size(item, image)
        except utils.SizeMismatchError as error:
            raise wrong_size(name, image, item) from error
        return image

    def _masks(
        self,
        record: dict[str, Any],
        transforms: T.TransformList,
        source_size: tuple[int, int],
        size: tuple[int, int],
    ) -> tuple[list[BoxMask], list[BoxMask]]:
        """Return the masks of the objects, and those of the crowds if edges are derived (else none)."""
        objects = _without_crowds(record["annotations"])
        crowds = _crowds(record["annotations"]) if "edge" in self.tasks else []
        segmentations = [annotation["segmentation"] for annotation in [*objects, *crowds]]
        try:
            masks = transform_masks(segmentations, transforms, source_size, size)
        except ValueError as error:
            raise BrokenSampleError(f"{record['file_name']}: {error}; correct its annotations.") from error
        return masks[: len(objects)], masks[len(objects) :]


def _without_crowds(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]


def _crowds(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [annotation for annotation in annotations if annotation.get("iscrowd", 0)]


def _clipped(boxes: np.ndarray, labelled: LabelledImage) -> np.ndarray:
    """Return (N, 4) float32 boxes, clipped to what is not padding."""
    rows, cols = labelled.inside or (slice(0, labelled.size[0]), slice(0, labelled.size[1]))
    corner = [cols.start, rows.start, cols.start, rows.start]
    return np.clip(boxes, corner, [cols.stop, rows.stop, cols.stop, rows.stop]).astype(np.float32)
