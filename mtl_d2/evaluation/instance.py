"""Box and mask AP of the images that have instance labels."""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm

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
from mtl_d2.evaluation.coco_matches import image_matches
from mtl_d2.evaluation.per_image import write_matches
from mtl_d2.evaluation.rle import encode_box_mask, encode_mask, to_rle

logger = logging.getLogger(__name__)

CocoDict = dict[str, Any]


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
    ):
        """
        Args:
            dataset_name: a registered dataset.
            output_dir: where ``coco_instances_results.json`` (the detections) and ``instance_pr.json`` (``curves``)
                are written; None for nowhere.
            max_dets: overrides the metadata's.
            backend: what counts the matches; None for the fastest that is installed, figures are the same.
            per_image: write the matches of each image too (see ``PerImage``).
        """
        metadata = MetadataCatalog.get(dataset_name)
        self._class_names = list(metadata.thing_classes)
        self._contiguous_to_dataset_id = {
            v: k for k, v in metadata.get("thing_dataset_id_to_contiguous_id", {}).items()
        }
        self._max_dets = max_dets or metadata.get("max_dets", 100)
        self._dataset_name = dataset_name
        self._backend = backend
        self._output_dir = output_dir
        self._per_image = per_image
        self._records = {
            record["image_id"]: record for record in DatasetCatalog.get(dataset_name) if "annotations" in record
        }
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
            {"bbox": figures, "segm": figures} on the main process, {} elsewhere; see ``average_precision``.
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
        tables = {"bbox": self._count("bbox", image_ids, detections)}
        if has_masks and self._has_true_masks:
            self.num_mask_images = len(mask_image_ids)
            tables["segm"] = self._count("segm", mask_image_ids, detections)
        self.curves = {"recall": list(RECALLS)}
        self.curves.update((task, precision_curves(table, self._class_names)) for task, table in tables.items())
        if self._output_dir is not None:
            _write(self._output_dir, "instance_pr.json", {"dataset": self._dataset_name, **self.curves})
        return OrderedDict((task, average_precision(table, self._class_names)) for task, table in tables.items())

    def _count(
        self, iou_type: IoUType, image_ids: list[int | str], detections: dict[int | str, list[CocoDict]]
    ) -> PrecisionRecall:
        images, truth, found, num_classes = [], [], [], len(self._class_names)
        for index, image_id in enumerate(image_ids):
            record = self._records[image_id]
            images.append({"id": index, "height": record["height"], "width": record["width"]})
            truth += [{**a, "image_id": index} for a in annotations_to_coco(record, iou_type, num_classes)]
            found += [_detection_to_coco(d, index, iou_type) for d in detections[image_id]]
        coco = build_coco(images, truth, num_classes), build_coco(images, found, num_classes)
        if self._per_image and self._output_dir is not None:
            names = tuple(self._records[image_id]["file_name"] for image_id in image_ids)
            write_matches(self._output_dir, names, image_matches(*coco, iou_type, self._max_dets), iou_type)
        return precision_recall(*coco, iou_type, self._max_dets, self._backend)

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


def instances_to_coco(instances: Instances) -> list[CocoDict]:
    """Detections of one image as COCO dicts without image_id: bbox (x, y, w, h), contiguous category_id,
    score, and segmentation (compressed RLE) and keypoints (x, y, score, ...) where there are some.

    Boxes are in coordinates, keypoints in indices of pixels, which are lower by 0.5, as in COCO.
    """
    boxes = instances.pred_boxes.tensor.numpy()
    boxes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    detections = [
        {"bbox": box, "category_id": category_id, "score": score}
        for box, category_id, score in zip(
            boxes, instances.pred_classes.tolist(), instances.scores.tolist(), strict=True
        )
    ]
    if instances.has("pred_masks"):
        for detection, mask in zip(detections, np.asarray(instances.pred_masks, dtype=bool), strict=True):
            detection["segmentation"] = encode_mask(mask)
    elif instances.has("pred_box_masks"):
        for detection, box_mask in zip(detections, instances.pred_box_masks.masks, strict=True):
            detection["segmentation"] = encode_box_mask(box_mask, instances.image_size)
    if instances.has("pred_keypoints"):
        keypoints = instances.pred_keypoints - instances.pred_keypoints.new_tensor([0.5, 0.5, 0])
        for detection, points in zip(detections, keypoints.flatten(1).tolist(), strict=True):
            detection["keypoints"] = points
    return detections


def annotations_to_coco(record: dict[str, Any], iou_type: IoUType, num_classes: int) -> list[CocoDict]:
    """A record's annotations as COCO ground truth without image_id; a ``class_agnostic`` crowd is one of each class.

    The area (pixels), by which objects are small, medium or large, is the annotation's own where it says so,
    else the mask's, else the box's.
    """
    result = []
    for annotation in record["annotations"]:
        box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS)
        entry: CocoDict = {
            "bbox": [float(x) for x in box],
            "category_id": int(annotation["category_id"]),
            "iscrowd": int(annotation.get("iscrowd", 0)),
        }
        if "segmentation" in annotation:
            rle = to_rle(annotation["segmentation"], record["height"], record["width"])
            entry["area"] = float(annotation.get("area", mask_util.area(rle)))
            if iou_type == "segm":
                entry["segmentation"] = rle
        else:
            entry["area"] = float(annotation.get("area", entry["bbox"][2] * entry["bbox"][3]))
        if iou_type == "keypoints":
            entry["keypoints"] = [float(x) for x in annotation["keypoints"]]
            entry["num_keypoints"] = int(np.count_nonzero(entry["keypoints"][2::3]))
        ignored = range(num_classes) if annotation.get("class_agnostic") else [entry["category_id"]]
        result += [{**entry, "category_id": category_id} for category_id in ignored]
    return result


def _detection_to_coco(detection: CocoDict, image_id: int, iou_type: IoUType) -> CocoDict:
    """A detection with the area that COCO sorts it by: its mask's for masks, its box's for boxes."""
    entry: CocoDict = {"image_id": image_id, "iscrowd": 0}
    entry.update((key, detection[key]) for key in ("category_id", "score"))
    if iou_type == "segm":
        rle = detection["segmentation"]
        return {**entry, "segmentation": rle, "area": float(mask_util.area(rle))}
    box = detection["bbox"]
    return {**entry, "bbox": box, "area": box[2] * box[3]}


def _all_have_masks(record: dict[str, Any]) -> bool:
    return all("segmentation" in annotation for annotation in record["annotations"])


def _write(output_dir: str, name: str, content: Any) -> None:
    os.makedirs(output_dir, exist_ok=True)
    with open(os.path.join(output_dir, name), "w") as file:
        json.dump(content, file)
