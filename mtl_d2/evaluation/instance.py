"""Box and mask AP of the images that have instance labels."""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm

from mtl_d2.evaluation.boundary import checked_width
from mtl_d2.evaluation.coco_ap import (
    RECALLS,
    Backend,
    IoUType,
    PrecisionRecall,
    average_precision,
    build_coco,
    precision_curves,
    precision_recall,
)
from mtl_d2.evaluation.coco_dicts import CocoDict, annotations_to_coco, detection_to_coco, instances_to_coco
from mtl_d2.evaluation.coco_matches import image_matches
from mtl_d2.evaluation.per_image import write_matches

logger = logging.getLogger(__name__)


class InstanceEvaluator(DatasetEvaluator):
    """COCO AP of boxes, and of masks where predictions and ground truth have them.

    Ground truth comes from the dataset's records, no COCO file is needed. Only images that were processed and
    whose record has "annotations" count; for masks, those whose annotations all have a segmentation. Crowds
    are ignored regions, as in COCO.

    Metadata read: ``thing_classes``, and ``max_dets`` (100 where absent), the limit of detections per image.

    After ``evaluate()``, ``num_images`` images were scored for boxes, ``num_mask_images`` for masks, and
    ``curves`` holds the recalls and, by "bbox" and "segm", the precisions (see ``precision_curves``).
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        max_dets: int | None = None,
        backend: Backend | None = None,
        per_image: bool = False,
        boundary_width: float = 0.0,
    ):
        """
        Args:
            dataset_name: a registered dataset.
            output_dir: where ``coco_instances_results.json`` (the detections) and ``instance_pr.json`` (``curves``)
                are written; None for nowhere.
            max_dets: overrides the metadata's.
            backend: what counts the matches; None for the fastest that is installed, figures are the same.
            per_image: write the matches of each image too (see ``PerImage``).
            boundary_width: of the bands that Boundary AP compares, as a fraction of the image's diagonal; 0 leaves it
                out.
        """
        self._records = {
            record["image_id"]: record for record in DatasetCatalog.get(dataset_name) if "annotations" in record
        }
        metadata = MetadataCatalog.get(dataset_name)  # which loading may have filled
        self._class_names = list(metadata.thing_classes)
        self._contiguous_to_dataset_id = {
            v: k for k, v in metadata.get("thing_dataset_id_to_contiguous_id", {}).items()
        }
        self._max_dets = max_dets or metadata.get("max_dets", 100)
        self._dataset_name = dataset_name
        self._backend = backend
        self._output_dir = output_dir
        self._per_image = per_image
        self._boundary_width = checked_width(boundary_width)
        # Of the whole dataset, so that the results have the same keys whichever images were processed.
        self._has_true_masks = any(
            "segmentation" in annotation for r in self._records.values() for annotation in r["annotations"]
        )
        self.num_images = self.num_mask_images = 0
        self.curves: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        self._detections: dict[int | str, list[CocoDict]] = {}
        self._has_masks = False

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """
        Args:
            inputs: dataset dicts with "image_id".
            outputs: dicts with "instances": Instances with pred_boxes (pixels of the original image), scores,
                pred_classes and, optionally, pred_masks (N, H, W).
        """
        for record, output in zip(inputs, outputs, strict=True):
            image_id = record["image_id"]
            if image_id not in self._records or "instances" not in output:
                continue
            instances = output["instances"].to("cpu")
            self._check_predictions(instances, self._records[image_id])
            self._has_masks |= instances.has("pred_masks")
            self._detections[image_id] = instances_to_coco(instances)

    def _check_predictions(self, instances: Instances, record: dict[str, Any]) -> None:
        expected = (record["height"], record["width"])
        if instances.has("pred_masks") and tuple(instances.pred_masks.shape[1:]) != expected:
            raise ValueError(
                f"{record['file_name']}: predicted masks have size {tuple(instances.pred_masks.shape[1:])}, "
                f"expected (height, width) = {expected}; resize predictions to the record's size."
            )
        num_classes = len(self._class_names)
        if len(instances) and int(instances.pred_classes.max()) >= num_classes:
            raise ValueError(
                f"{record['file_name']}: predicted class {int(instances.pred_classes.max())}, but the "
                f"dataset has {num_classes} classes; set MODEL.ROI_HEADS.NUM_CLASSES to {num_classes}."
            )

    def evaluate(self) -> "OrderedDict[str, dict[str, float]]":
        """
        Returns:
            {"bbox": figures, "segm": figures} on the main process, {} elsewhere; see ``average_precision``. With a
            boundary width "segm" has them a second time as boundary_AP, boundary_AP50, ..., boundary_AP-<class>.
        """
        comm.synchronize()
        parts = comm.gather((self._detections, self._has_masks))
        if not comm.is_main_process():
            return OrderedDict()
        detections: dict[int | str, list[CocoDict]] = {}
        for part, _ in parts:
            detections.update(part)
        has_masks = any(flag for _, flag in parts)
        if not detections:
            logger.warning("No labelled image was processed: AP is undefined.")
        if self._output_dir is not None:
            _write(self._output_dir, "coco_instances_results.json", self._with_dataset_ids(detections))

        image_ids = [image_id for image_id in self._records if image_id in detections]  # the dataset's order
        mask_image_ids = [image_id for image_id in image_ids if _all_have_masks(self._records[image_id])]
        self.num_images, self.num_mask_images = len(image_ids), 0
        counted = {"bbox": self._count("bbox", image_ids, detections)}
        if has_masks and self._has_true_masks:
            self.num_mask_images = len(mask_image_ids)
            counted["segm"] = self._count("segm", mask_image_ids, detections)
        self.curves = {"recall": list(RECALLS)}
        self.curves.update((task, precision_curves(table, self._class_names)) for task, (table, _) in counted.items())
        if self._output_dir is not None:
            _write(self._output_dir, "instance_pr.json", {"dataset": self._dataset_name, **self.curves})
        return OrderedDict((task, figures) for task, (_, figures) in counted.items())

    def _count(
        self, iou_type: IoUType, image_ids: list[int | str], detections: dict[int | str, list[CocoDict]]
    ) -> tuple[PrecisionRecall, dict[str, float]]:
        images, truth, found, num_classes = [], [], [], len(self._class_names)
        for index, image_id in enumerate(image_ids):
            record = self._records[image_id]
            images.append({"id": index, "height": record["height"], "width": record["width"]})
            truth += [{**a, "image_id": index} for a in annotations_to_coco(record, iou_type, num_classes)]
            found += [detection_to_coco(d, index, iou_type) for d in detections[image_id]]
        coco = build_coco(images, truth, num_classes), build_coco(images, found, num_classes)
        if self._per_image and self._output_dir is not None:
            names = tuple(self._records[image_id]["file_name"] for image_id in image_ids)
            write_matches(self._output_dir, names, image_matches(*coco, iou_type, self._max_dets), iou_type)
        count = partial(precision_recall, *coco, iou_type, self._max_dets, self._backend)
        tables = count()
        figures = average_precision(tables, self._class_names)
        if iou_type == "segm" and self._boundary_width:
            of_boundaries = average_precision(count(boundary_width=self._boundary_width), self._class_names)
            figures.update((f"boundary_{name}", value) for name, value in of_boundaries.items())
        return tables, figures

    def _with_dataset_ids(self, detections: dict[int | str, list[CocoDict]]) -> list[CocoDict]:
        """COCO's result format, with the dataset's own category ids."""
        results = [
            {
                **detection,
                "image_id": image_id,
                "category_id": self._contiguous_to_dataset_id.get(detection["category_id"], detection["category_id"]),
            }
            for image_id, detections_of_image in detections.items()
            for detection in detections_of_image
        ]
        for result in results:
            if "segmentation" in result:
                counts = result["segmentation"]["counts"].decode("ascii")
                result["segmentation"] = {**result["segmentation"], "counts": counts}
        return results


def _all_have_masks(record: dict[str, Any]) -> bool:
    return all("segmentation" in annotation for annotation in record["annotations"])


def _write(output_dir: str, name: str, content: Any) -> None:
    os.makedirs(output_dir, exist_ok=True)
    with open(os.path.join(output_dir, name), "w") as file:
        json.dump(content, file)
