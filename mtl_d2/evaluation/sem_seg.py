"""Semantic segmentation figures of the images that have a semantic map."""

import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from mtl_d2.evaluation.boundary import boundary_counts, boundary_iou_figures, checked_width
from mtl_d2.evaluation.per_image import Confusions
from mtl_d2.evaluation.sem_seg_figures import sem_seg_figures
from mtl_d2.structures import read_semantic_ids

_LABEL_KEYS = ("sem_seg_file_name", "sem_seg_id_map")

logger = logging.getLogger(__name__)


class SemSegEvaluator(DatasetEvaluator):
    """mIoU, fwIoU, mACC, pACC, IoU and accuracy per class, in 0..100: equal to Detectron2's evaluator.

    Images whose record has no "sem_seg_file_name" are left out. Metadata read: ``stuff_classes`` (the name of
    every semantic id) and ``ignore_label`` (255 where absent).

    After ``evaluate()``, ``num_images`` is the number of images scored.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | os.PathLike | None = None,
        per_image: bool = False,
        boundary_width: float = 0.0,
    ):
        """
        Args:
            dataset_name: a registered dataset.
            output_dir: where the statistics of each image are written; None for nowhere.
            per_image: write them (see ``PerImage``).
            boundary_width: of the bands that Boundary IoU compares, as a fraction of the image's diagonal; 0 leaves it
                out.
        """
        self._labels = {
            record["file_name"]: {key: record[key] for key in _LABEL_KEYS if key in record}
            for record in DatasetCatalog.get(dataset_name)
            if "sem_seg_file_name" in record
        }
        metadata = MetadataCatalog.get(dataset_name)  # which loading may have filled
        self._class_names = list(metadata.stuff_classes)
        self._ignore_label = int(metadata.get("ignore_label", 255))
        self._output_dir = output_dir if per_image else None
        self._boundary_width = checked_width(boundary_width)
        self.num_images = 0
        self.reset()

    def reset(self) -> None:
        num_classes = len(self._class_names)
        self._confusion = np.zeros((num_classes, num_classes), dtype=np.int64)  # [predicted, true]
        self._boundary = np.zeros((3, num_classes), dtype=np.int64)
        self._confusions: dict[str, np.ndarray] = {}  # of each image, where they are asked for
        self._num_processed = 0

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """
        Args:
            inputs: dataset dicts with "file_name".
            outputs: dicts with "sem_seg": (K, H, W) logits or probabilities, in the size of the label file.
        """
        num_classes = len(self._class_names)
        for record, output in zip(inputs, outputs, strict=True):
            label = self._labels.get(record["file_name"])
            if label is None or "sem_seg" not in output:
                continue
            scores = output["sem_seg"]
            if scores.shape[0] != num_classes:
                raise ValueError(
                    f"{record['file_name']}: the prediction has {scores.shape[0]} semantic channels, but the "
                    f"dataset has {num_classes} classes; set MODEL.SEM_SEG_HEAD.NUM_CLASSES to {num_classes}."
                )
            predicted = scores.max(dim=0).indices.cpu().numpy()
            true = read_sem_seg(label, num_classes, self._ignore_label)
            if predicted.shape != true.shape:
                raise ValueError(
                    f"{label['sem_seg_file_name']}: the prediction for {record['file_name']} has size "
                    f"{predicted.shape}, expected the label's (height, width) = {true.shape}; resize predictions to "
                    "that size."
                )
            confusion = confusion_matrix(predicted, true, num_classes)
            self._confusion += confusion
            if self._boundary_width:
                self._boundary += boundary_counts(predicted, true, num_classes, self._boundary_width)
            if self._output_dir is not None:
                self._confusions[record["file_name"]] = confusion
            self._num_processed += 1

    def evaluate(self) -> "OrderedDict[str, dict[str, float]]":
        """
        Returns:
            {"sem_seg": figures} on the main process, {} elsewhere; see ``sem_seg_figures``, and
            ``boundary_iou_figures`` where a boundary width was given.
        """
        comm.synchronize()
        parts = comm.gather((self._confusion, self._boundary, self._num_processed, self._confusions))
        if not comm.is_main_process():
            return OrderedDict()
        self.num_images = sum(count for *_, count, _ in parts)
        if self.num_images == 0:
            logger.warning("No image with a semantic map was processed: mIoU is undefined.")
        confusion = np.sum([matrix for matrix, *_ in parts], axis=0)
        if self._output_dir is not None:
            of_image = {name: matrix for *_, matrices in parts for name, matrix in matrices.items()}
            stacked = np.array([of_image[name] for name in sorted(of_image)]).reshape(-1, *confusion.shape)
            Confusions(tuple(sorted(of_image)), stacked).write(Path(self._output_dir), "sem_seg")
        figures = sem_seg_figures(confusion, self._class_names)
        if self._boundary_width:
            counts = np.sum([boundary for _, boundary, *_ in parts], axis=0)
            figures.update(boundary_iou_figures(counts, self._class_names))
        return OrderedDict(sem_seg=figures)


def read_sem_seg(record: Mapping[str, Any], num_classes: int, ignore_label: int) -> np.ndarray:
    """A record's semantic label as (H, W) uint8 or wider, void as ``num_classes``.

    Raises:
        ValueError: a label that is neither a class nor ``ignore_label``.
    """
    label = read_semantic_ids(record)
    void = label == ignore_label
    unknown = label[(label >= num_classes) & ~void]
    if len(unknown):
        raise ValueError(
            f"{record['sem_seg_file_name']}: label {int(unknown.max())} found, expected 0 to {num_classes - 1} or "
            f"the ignore label {ignore_label}; correct the file, or the metadata's stuff_classes and ignore_label."
        )
    if num_classes > np.iinfo(label.dtype).max:
        label = label.astype(np.int64)
    label[void] = num_classes
    return label


def confusion_matrix(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels per (predicted, true) class; true pixels that hold ``num_classes`` (void) are left out.

    Args:
        predicted, true: (H, W), integers; predicted in 0..K-1, true in 0..K.

    Returns:
        (K, K), int64.
    """
    # cv2 counts in float32: exact below 2 ** 24 pixels.
    if num_classes < 256 and true.size < 2**24:
        channels = [predicted.astype(np.uint8), true.astype(np.uint8)]
        bins = [num_classes, num_classes]
        counts = cv2.calcHist(channels, [0, 1], None, bins, [0, num_classes, 0, num_classes])
        return counts.astype(np.int64)
    joint = predicted.astype(np.int64) * (num_classes + 1) + true
    counts = np.bincount(joint.ravel(), minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)[:, :num_classes]
