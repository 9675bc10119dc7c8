"""Panoptic quality of the images that have both instance masks and a semantic map."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from mtl_d2.evaluation.panoptic_quality import (
    PanopticCounts,
    PanopticMap,
    Segment,
    count_matches,
    panoptic_quality,
)
from mtl_d2.evaluation.rle import paint_mask, to_rle
from mtl_d2.evaluation.sem_seg import read_sem_seg

logger = logging.getLogger(__name__)


class PanopticEvaluator(DatasetEvaluator):
    """PQ, SQ, RQ over all, thing and stuff classes (Kirillov et al., "Panoptic Segmentation", 2019, eq. 1).

    Ground truth is composed of the record's annotations (things; crowds are regions that are not counted) and,
    where no instance lies, of the stuff ids of its semantic map. Void are the ignore label, ``class_agnostic``
    crowds, and pixels that the semantic map gives to a thing class but no instance covers. Images without
    annotations, with an annotation without a segmentation, or without a semantic map are left out.

    Metadata read: ``thing_classes``, ``stuff_classes``, ``stuff_ids``, ``ignore_label`` (else 255).

    After ``evaluate()``, ``num_images`` is the number of images scored.
    """

    def __init__(self, dataset_name: str, *, output_dir: str | None = None):
        """
        Args:
            dataset_name: a registered dataset.
            output_dir: unused: nothing is written; every evaluator's constructor takes it.
        """
        self._records = {
            record["image_id"]: record
            for record in DatasetCatalog.get(dataset_name)
            if "sem_seg_file_name" in record
            and all("segmentation" in annotation for annotation in record.get("annotations", [{}]))
        }
        metadata = MetadataCatalog.get(dataset_name)  # which loading may have filled
        self._thing_classes = list(metadata.thing_classes)
        self._semantic_classes = list(metadata.stuff_classes)
        self._stuff_ids = sorted(metadata.stuff_ids)
        self._ignore_label = int(metadata.get("ignore_label", 255))
        self.num_images = 0
        self.reset()

    def reset(self) -> None:
        self._counts = PanopticCounts.zeros(len(self._thing_classes) + len(self._stuff_ids))
        self._num_processed = 0

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """
        Args:
            inputs: dataset dicts with "image_id".
            outputs: dicts with "panoptic_seg": (ids, segments): ids (H, W) integers, 0 is void; segments have
                "id", "isthing" and "category_id" (contiguous for things, the semantic id for stuff).
        """
        for image, output in zip(inputs, outputs, strict=True):
            record = self._records.get(image["image_id"])
            if record is None or "panoptic_seg" not in output:
                continue
            predicted = self._predicted_map(record, *output["panoptic_seg"])
            self._counts += count_matches(self._true_map(record), predicted, len(self._counts.iou))
            self._num_processed += 1

    def _class_index(self, isthing: bool, category_id: int, file_name: str) -> int:
        """Things first, then stuff in the order of its semantic ids."""
        if isthing and 0 <= category_id < len(self._thing_classes):
            return category_id
        if not isthing and category_id in self._stuff_ids:
            return len(self._thing_classes) + self._stuff_ids.index(category_id)
        kind = "thing" if isthing else "stuff"
        known = f"0 to {len(self._thing_classes) - 1}" if isthing else f"one of the stuff_ids {self._stuff_ids}"
        raise ValueError(
            f"{file_name}: a panoptic segment has {kind} category {category_id}, expected {known}; the "
            "metadata of the dataset and the model that predicts must name the same classes."
        )

    def _predicted_map(self, record: dict[str, Any], ids: Any, segments: list[dict[str, Any]]) -> PanopticMap:
        file_name = record["file_name"]
        ids = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
        expected = (record["height"], record["width"])
        if ids.shape != expected:
            raise ValueError(
                f"{file_name}: the panoptic map has size {ids.shape}, expected (height, width) = {expected}; "
                "resize predictions to the record's size."
            )
        segment_ids = [segment["id"] for segment in segments]
        unlisted = set(np.flatnonzero(np.bincount(ids.ravel())).tolist()) - {0, *segment_ids}
        if unlisted:
            raise ValueError(
                f"{file_name}: the panoptic map holds id {min(unlisted)} that segments_info does not list; "
                "list every id but 0, which is void."
            )
        # Densely, in the order of segments_info: the joint histogram needs a row for each id.
        dense = np.zeros(max([0, *segment_ids]) + 1, dtype=np.int64)
        dense[segment_ids] = np.arange(1, len(segments) + 1)
        return PanopticMap(
            dense[ids],
            [Segment(self._class_index(s["isthing"], s["category_id"], file_name)) for s in segments],
        )

    def _true_map(self, record: dict[str, Any]) -> PanopticMap:
        height, width = record["height"], record["width"]
        sem_seg = read_sem_seg(record, len(self._semantic_classes), self._ignore_label)
        if sem_seg.shape != (height, width):
            raise ValueError(
                f"{record['sem_seg_file_name']}: size {sem_seg.shape} found, expected the record's (height, "
                f"width) = {(height, width)}; correct the file or the record."
            )
        segments = [
            Segment(self._class_index(False, semantic_id, record["file_name"])) for semantic_id in self._stuff_ids
        ]
        stuff = np.zeros(len(self._semantic_classes) + 1, dtype=np.int64)  # things and void stay 0
        stuff[self._stuff_ids] = np.arange(1, len(segments) + 1)
        ids = stuff[sem_seg]
        rles = [to_rle(annotation["segmentation"], height, width) for annotation in record["annotations"]]
        crowds = np.array([bool(a.get("iscrowd", 0)) for a in record["annotations"]], dtype=bool)
        # Crowds lie below instances, and larger instances below smaller ones, so that none is hidden.
        areas = np.array([mask_util.area(rle) for rle in rles], dtype=np.int64)
        for index in np.lexsort((-areas, ~crowds)):
            annotation = record["annotations"][index]
            if annotation.get("class_agnostic"):
                paint_mask(ids, rles[index], 0)
                continue
            class_index = self._class_index(True, annotation["category_id"], record["file_name"])
            segments.append(Segment(class_index, bool(crowds[index])))
            paint_mask(ids, rles[index], len(segments))
        return PanopticMap(ids, segments)

    def evaluate(self) -> "OrderedDict[str, dict[str, float]]":
        """
        Returns:
            {"panoptic_seg": figures} on the main process, {} elsewhere; see ``panoptic_quality``.
        """
        comm.synchronize()
        parts = comm.gather((self._counts, self._num_processed))
        if not comm.is_main_process():
            return OrderedDict()
        self.num_images = sum(count for _, count in parts)
        if self.num_images == 0:
            logger.warning("No image with instance and semantic labels was processed: PQ is undefined.")
        counts = PanopticCounts.zeros(len(self._counts.iou))
        for part, _ in parts:
            counts += part
        names = self._thing_classes + [self._semantic_classes[i] for i in self._stuff_ids]
        return OrderedDict(panoptic_seg=panoptic_quality(counts, names, len(self._thing_classes)))
