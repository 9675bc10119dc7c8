"""Figures of image classification, of the images that are labelled for it."""

import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from mtl_d2.evaluation.average_precision import average_precision, mean_average_precision
from mtl_d2.evaluation.per_image import ImageScores
from mtl_d2.evaluation.sem_seg import read_sem_seg
from mtl_d2.structures.image_labels import annotation_classes, image_label_source, multi_hot

logger = logging.getLogger(__name__)

THRESHOLD = 0.5  # probability from which on a class counts as predicted, for F1


class ClassificationEvaluator(DatasetEvaluator):
    """mAP, AP per class and F1, in 0..100, see :func:`classification_figures`.

    Labels come from the records as they are stored: given ones, the classes of the objects (crowds alone: unknown), or
    those of the semantic map. Images whose record lacks them are left out. Metadata read: the names of the classes,
    ``image_label_classes``, ``thing_classes`` or ``stuff_classes``, and for the last ``ignore_label`` (255 where
    absent).

    After ``evaluate()``, ``num_images`` is the number of images scored.
    """

    def __init__(
        self,
        dataset_name: str,
        source: str = "given",
        *,
        output_dir: str | os.PathLike | None = None,
        per_image: bool = False,
    ):
        """
        Args:
            dataset_name: a registered dataset.
            source: of the labels: "given", "instances" or "sem_seg".
            output_dir: where the statistics of each image are written; None for nowhere.
            per_image: write them (see ``PerImage``).
        """
        self._records = {record["file_name"]: record for record in DatasetCatalog.get(dataset_name)}
        metadata = MetadataCatalog.get(dataset_name)
        self._class_names = list(metadata.get(image_label_source(source).classes) or ())
        self._ignore_label = int(metadata.get("ignore_label", 255))
        self._source = source
        self._output_dir = output_dir if per_image else None
        self.num_images = 0
        self.reset()

    def reset(self) -> None:
        self._found: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # of each image: scores and labels

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """
        Args:
            inputs: dataset dicts with "file_name".
            outputs: dicts with "image_labels": (K,) probabilities.
        """
        for image, output in zip(inputs, outputs, strict=True):
            record = self._records.get(image["file_name"], {})
            labels = record_image_labels(record, self._source, len(self._class_names), self._ignore_label)
            if labels is None or "image_labels" not in output:
                continue
            scores = output["image_labels"].float().nan_to_num(-1).cpu().numpy()  # NaN ranks last
            if scores.shape != (len(self._class_names),):
                raise ValueError(
                    f"{record['file_name']}: the prediction has {scores.size} image labels, but the dataset has "
                    f"{len(self._class_names)} classes; set MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES to that."
                )
            self._found[record["file_name"]] = scores, labels

    def evaluate(self) -> "OrderedDict[str, dict[str, float]]":
        """
        Returns:
            {"classification": figures} on the main process, {} elsewhere.
        """
        comm.synchronize()
        parts = comm.gather(self._found)
        if not comm.is_main_process():
            return OrderedDict()
        found = {name: pair for part in parts for name, pair in part.items()}
        self.num_images = len(found)
        if not found:
            logger.warning("No image with labels of its classes was processed: mAP is undefined.")
        names, shape = sorted(found), (-1, len(self._class_names))
        scores, labels = (np.array([found[name][i] for name in names], np.float32).reshape(shape) for i in (0, 1))
        if self._output_dir is not None:
            ImageScores(tuple(names), scores, labels).write(Path(self._output_dir), "classification")
        return OrderedDict(classification=classification_figures(scores, labels, self._class_names))


def record_image_labels(
    record: Mapping[str, Any], source: str, num_classes: int, ignore_label: int = 255
) -> np.ndarray | None:
    """Return (K,) float32 in {1, 0, -1}, -1 where unknown: which classes an image has, as it is stored.

    None for a record that lacks the label of the source.

    Args:
        record: in Detectron2's dataset form.
        source: "given", "instances" or "sem_seg".
        num_classes: K.
        ignore_label: void in the semantic PNG.

    Raises:
        ValueError: a class is not in [0, K).
    """
    key = image_label_source(source).record_key
    if record.get(key) is None:
        return None
    present: list[int] = record[key]
    unknown: list[int] = []
    if source == "instances":
        present, unknown = annotation_classes(record[key])
    elif source == "sem_seg":  # void is read as K
        present = np.setdiff1d(read_sem_seg(record, num_classes, ignore_label), [num_classes]).tolist()
    try:
        return multi_hot(present, num_classes, unknown=unknown)
    except ValueError as error:
        raise ValueError(f"{record['file_name']}: '{key}': {error}; correct it.") from error


def classification_figures(scores: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Figures in 0..100 of N images and K classes; labels that are unknown take no part.

    Args:
        scores: (N, K) probabilities.
        labels: (N, K), 1, 0 or, where unknown, below 0.
        names: of the classes.

    Returns:
        "mAP": mean over the classes that an image has; "F1": micro-averaged, at a probability of 1/2; "AP-<name>", NaN
        for a class that no image has. NaN where nothing is known.
    """
    predicted, known = scores >= THRESHOLD, labels >= 0
    right = int((predicted & (labels == 1)).sum())
    total = int((predicted & known).sum() + (labels == 1).sum())
    mean = mean_average_precision(scores, labels, np.ones((1, len(scores))))[0]
    of_class = {
        f"AP-{name}": 100 * float(average_precision(scores[known[:, k], k], labels[known[:, k], k]))
        for k, name in enumerate(names)
    }
    return {"mAP": float(mean), "F1": 200 * right / total if total else float("nan"), **of_class}
