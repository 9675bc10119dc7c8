"""COCO's keypoint AP of the images that have keypoint labels."""

import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm

from mtl_d2.structures.keypoint_sigmas import check_sigmas

from .coco_ap import Backend, PrecisionRecall, average_precision, build_coco, precision_recall
from .coco_dicts import CocoDict, annotations_to_coco
from .coco_matches import image_matches
from .per_image import write_matches

MAX_DETS = 20  # COCO's for keypoints
RESULTS = "coco_keypoints_results.json"


class KeypointEvaluator(DatasetEvaluator):
    """COCO's AP of keypoints by object keypoint similarity, OKS (https://cocodataset.org/#keypoints-eval).

    Ground truth comes from the dataset's records. An image counts where it was processed, its record has "annotations",
    and each object of a class that has keypoints somewhere in the dataset has its own: images without such objects
    count, what is found there is wrong. Objects of which no keypoint is labelled are neither right nor wrong.

    Metadata read: ``thing_classes`` and ``keypoint_names``.

    After ``evaluate()``, ``num_images`` images were scored.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        sigmas: Sequence[float] = (),
        output_dir: str | None = None,
        max_dets: int = MAX_DETS,
        backend: Backend | None = None,
        per_image: bool = False,
    ):
        """
        Args:
            dataset_name: a registered dataset.
            sigmas: standard deviation of the annotation of each keypoint, relative to the square root of the object's
                area; none for COCO's 17.
            output_dir: where ``coco_keypoints_results.json`` (COCO's results) is written; None for nowhere.
            max_dets: detections per image and class that count.
            backend: see :class:`InstanceEvaluator`.
            per_image: write the matches of each image too.

        Raises:
            ValueError: not as many sigmas as keypoints, or one that is not above 0.
        """
        self._records = _labelled_records(DatasetCatalog.get(dataset_name))
        metadata = MetadataCatalog.get(dataset_name)  # which loading may have filled
        self._class_names = list(metadata.thing_classes)
        ids = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
        self._dataset_ids = {contiguous: dataset_id for dataset_id, contiguous in ids.items()}
        self._num_keypoints = len(metadata.get("keypoint_names", ()))
        check_sigmas(sigmas, self._num_keypoints, dataset_name)
        self._sigmas = tuple(sigmas)
        self._output_dir, self._max_dets, self._backend, self._per_image = output_dir, max_dets, backend, per_image
        self.num_images = 0
        self.reset()

    def reset(self) -> None:
        self._detections: dict[int | str, list[CocoDict]] = {}

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """
        Args:
            inputs: dataset dicts with "image_id".
            outputs: dicts with "instances" (or "keypoint_instances", where another network gives those): Instances
                with scores, pred_classes and pred_keypoints (R, K, 3) in pixels of the original image.
        """
        for record, output in zip(inputs, outputs, strict=True):
            instances = output.get("keypoint_instances", output.get("instances"))
            if record["image_id"] in self._records and instances is not None:
                self._detections[record["image_id"]] = self._to_coco(instances.to("cpu"))

    def _to_coco(self, instances: Instances) -> list[CocoDict]:
        found = instances.pred_keypoints.shape[1]
        if found != self._num_keypoints:
            raise ValueError(
                f"predicted {found} keypoints, but the dataset has {self._num_keypoints}; set "
                f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS to {self._num_keypoints}."
            )
        columns = (instances.pred_keypoints, instances.pred_classes, instances.scores)
        points, classes, scores = (column.tolist() for column in columns)
        return [
            {"category_id": category, "score": score, "keypoints": [x for point in of_one for x in point]}
            for of_one, category, score in zip(points, classes, scores, strict=True)
        ]

    def evaluate(self) -> "OrderedDict[str, dict[str, float]]":
        """
        Returns:
            {"keypoints": figures} on the main process, {} elsewhere; see :func:`keypoint_figures`.
        """
        comm.synchronize()
        parts = comm.gather(self._detections)
        if not comm.is_main_process():
            return OrderedDict()
        detections: dict[int | str, list[CocoDict]] = {}
        for part in parts:
            detections.update(part)
        if self._output_dir is not None:
            self._write(self._output_dir, detections)
        image_ids = [image_id for image_id in self._records if image_id in detections]  # the dataset's order
        self.num_images = len(image_ids)
        tables = self._count(image_ids, detections)
        return OrderedDict(keypoints=keypoint_figures(tables, self._class_names))

    def _count(self, image_ids: list[int | str], detections: dict[int | str, list[CocoDict]]) -> PrecisionRecall:
        images, truth, found, num_classes = [], [], [], len(self._class_names)
        for index, image_id in enumerate(image_ids):
            record = _with_all_keypoints(self._records[image_id], self._num_keypoints)
            images.append({"id": index, "height": record["height"], "width": record["width"]})
            truth += [{**a, "image_id": index} for a in annotations_to_coco(record, "keypoints", num_classes)]
            found += [{**d, "image_id": index, "iscrowd": 0, **_extent(d["keypoints"])} for d in detections[image_id]]
        coco = build_coco(images, truth, num_classes), build_coco(images, found, num_classes)
        if self._per_image and self._output_dir is not None:
            names = tuple(self._records[image_id]["file_name"] for image_id in image_ids)
            matches = image_matches(*coco, "keypoints", self._max_dets, self._sigmas)
            write_matches(self._output_dir, names, matches, "keypoints")
        return precision_recall(*coco, "keypoints", self._max_dets, self._backend, sigmas=self._sigmas)

    def _write(self, output_dir: str, detections: dict[int | str, list[CocoDict]]) -> None:
        os.makedirs(output_dir, exist_ok=True)
        results = [
            {
                "image_id": image_id,
                "category_id": self._dataset_ids.get(found["category_id"], found["category_id"]),
                "score": found["score"],
                # COCO's are indices of pixels, ours coordinates.
                "keypoints": [x if i % 3 == 2 else x - 0.5 for i, x in enumerate(found["keypoints"])],
            }
            for image_id, of_image in detections.items()
            for found in of_image
        ]
        with open(os.path.join(output_dir, RESULTS), "w") as file:
            json.dump(results, file)


def keypoint_figures(tables: PrecisionRecall, class_names: list[str]) -> dict[str, float]:
    """AP, AP50, AP75, APm, APl, AR and AP-<class>, in 0..100; NaN where there is no ground truth.

    Args:
        tables: of "keypoints", whose areas are all, medium and large, as COCO has them for keypoints.
    """
    precision = np.insert(tables.precision, 1, -1, axis=-1)  # a column for the small ones
    figures = average_precision(PrecisionRecall(precision, np.insert(tables.recall, 1, -1, axis=-1)), class_names)
    del figures["APs"]
    return figures


def _labelled_records(records: Sequence[dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    labelled = [record for record in records if "annotations" in record]
    classes = {a["category_id"] for record in labelled for a in record["annotations"] if "keypoints" in a}
    return {
        record["image_id"]: record
        for record in labelled
        if all(
            "keypoints" in a or a["category_id"] not in classes or a.get("iscrowd", 0) for a in record["annotations"]
        )
    }


def _with_all_keypoints(record: dict[str, Any], count: int) -> dict[str, Any]:
    """The record, where each object has keypoints; of those that lack them none is labelled."""
    return {**record, "annotations": [{"keypoints": [0.0] * (3 * count), **a} for a in record["annotations"]]}


def _extent(keypoints: list[float]) -> CocoDict:
    """The box and the area by which COCO sorts a detection, those of its keypoints."""
    x, y = keypoints[0::3], keypoints[1::3]
    width, height = max(x) - min(x), max(y) - min(y)
    return {"bbox": [min(x), min(y), width, height], "area": width * height}
