"""What is read of a dataset record: the image and the labels that the tasks need, augmented alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from ..structures import edge_consensus, edge_files
from ..structures.box_masks import BoxMask
from ..structures.edges import IGNORE
from .edge_label import EDGE_LABELS, EdgeLabel, has_derived_edges
from .images import BrokenSampleError, contiguous, read_image
from .keypoints import transform_keypoints
from .label_maps import read_label, read_sem_seg, wrong_size
from .labelled_image import LabelledImage, source_boxes
from .labels import is_labelled
from .masks import tight_boxes, transform_masks
from .targets import check_edge_source, fill_padding, has_masks, transform_edges
from .transforms import inside_padding

LABEL_KEYS = ("annotations", "sem_seg_file_name", "sem_seg_id_map", "edge_file_name", "edge_source", "image_labels")


@dataclass(frozen=True, kw_only=True)
class LabelReader:
    """Read and augment an image and its labels, the first half of what a mapper does.

    Attributes:
        is_train: whether labels are read at all.
        image_labels: what those of whole images are made from; None where no task asks for them.
        others: see :class:`~.mapper.MultiTaskDatasetMapper`.
    """

    is_train: bool
    tasks: tuple[str, ...]
    augmentations: T.AugmentationList
    image_format: str
    use_instance_mask: bool
    recompute_boxes: bool
    num_thing_classes: int | None
    num_sem_classes: int | None
    ignore_value: int
    image_labels: str | None
    edge_label: EdgeLabel
    keypoint_flips: tuple[int, ...]

    def __call__(self, record: dict[str, Any], *, with_masks: bool = False) -> LabelledImage:
        """
        Args:
            record: of one image, in Detectron2's dataset form; left as it is.
            with_masks: read the objects and their masks whatever the tasks need, where the record has them.

        Raises:
            BrokenSampleError, ValueError: see :class:`~.mapper.MultiTaskDatasetMapper`.
        """
        record = self.edge_label.apply_source(record)
        fields = {key: value for key, value in record.items() if key not in LABEL_KEYS}
        image = self._read_image(fields)
        needed = self._labels_needed(record, with_masks) if self.is_train else set()
        objects = self._objects(record) if "annotations" in needed else None
        boxes = None if objects is None else source_boxes(objects)
        sem_seg = None
        if "sem_seg_file_name" in needed:
            bound = self.num_sem_classes if "sem_seg" in self.tasks else None
            sem_seg = read_sem_seg(record, bound, self.ignore_value)
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

    @property
    def reads_objects(self) -> bool:
        """Whether a target is made from the objects, whatever their masks are for."""
        return "instance" in self.tasks or self.image_labels == "instances"

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
            check_edge_source(record, self.edge_label.source)
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
