"""From a dataset record to the model's input: image and labels read and augmented, targets made after that."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from .edge_label import EdgeLabel
from .image_labels import image_label_target
from .images import to_planes
from .keypoints import keypoint_flip_indices
from .label_reader import LabelReader
from .labelled_image import LabelledImage
from .labels import labelling_tasks
from .pixels import limit_pixels
from .targets import edge_target, instance_target
from .transforms import build_augmentations

ExtraTarget = Callable[[dict[str, Any], T.TransformList], dict[str, Any]]


class MultiTaskDatasetMapper:
    """Map a dataset record to the model's input, with the targets of the tasks it is labelled for.

    A label key that the record lacks is absent from the result; a label that is there but empty (no
    objects) is there and empty. Masks are bitmaps whatever their source. Augmentations draw from numpy's
    global generator.

    Attributes:
        read: the first half of a call, a :class:`LabelReader`.
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
            num_thing_classes: bound on category ids in the task instance, unchecked where None.
            num_sem_classes: bound on semantic ids in the task sem_seg, unchecked where None.
            ignore_value: void in semantic maps.
            pixels_per_class: labelled pixels that each class keeps in a semantic map; 0 for all.
            image_labels: what the labels of whole images are made from, see :func:`image_label_target`.
            num_image_classes: number of these labels.
            edge_label: of what edges are derived, and how wide they are; None for the records' own, thin.
            keypoint_flips: for each keypoint the one that it becomes in a mirror image.
            extra_targets: for tasks of the user's own: each takes the record and the transforms that were
                applied to the image (``apply_image``, ``apply_segmentation``), and returns entries of the
                model's input. Where the augmentations pad, ``apply_segmentation`` gives the ignore value.

        Raises:
            ValueError: ``pixels_per_class`` is negative.
        """
        if pixels_per_class < 0:
            raise ValueError(
                f"MODEL.MTL.SEM_SEG_HEAD.PIXELS_PER_CLASS: found {pixels_per_class}, expected a number of pixels, "
                "0 for all."
            )
        self.is_train = is_train
        self.tasks = labelling_tasks(tasks)
        self.use_instance_mask = use_instance_mask
        self.ignore_value = ignore_value
        self.pixels_per_class = pixels_per_class
        self.image_labels = image_labels if "classification" in tasks else None
        self.num_image_classes = num_image_classes
        self.edge_label = edge_label or EdgeLabel()
        self.extra_targets = tuple(extra_targets)
        self.read = LabelReader(
            is_train=is_train,
            tasks=self.tasks,
            augmentations=T.AugmentationList(augmentations),
            image_format=image_format,
            use_instance_mask=use_instance_mask,
            recompute_boxes=recompute_boxes,
            num_thing_classes=num_thing_classes,
            num_sem_classes=num_sem_classes,
            ignore_value=ignore_value,
            image_labels=self.image_labels,
            edge_label=self.edge_label,
            keypoint_flips=tuple(keypoint_flips),
        )
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
            "edge_label": EdgeLabel.from_config(cfg),
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

    def targets(self, labelled: LabelledImage) -> dict[str, Any]:
        """Make the model's input from what ``read`` returns, the second half of a call."""
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

    def _sem_seg_target(self, sem_seg: np.ndarray) -> torch.Tensor:
        if self.pixels_per_class:
            sem_seg = limit_pixels(sem_seg, self.pixels_per_class, self.ignore_value)
        return torch.from_numpy(sem_seg.astype(np.int64))
