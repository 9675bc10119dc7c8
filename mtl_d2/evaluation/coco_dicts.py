"""Detections and annotations in COCO's form."""

from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode, Instances

from mtl_d2.evaluation.coco_ap import IoUType
from mtl_d2.evaluation.rle import encode_box_mask, encode_mask, to_rle

CocoDict = dict[str, Any]


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


def detection_to_coco(detection: CocoDict, image_id: int, iou_type: IoUType) -> CocoDict:
    """A detection with the area that COCO sorts it by: its mask's for masks, its box's for boxes."""
    entry: CocoDict = {"image_id": image_id, "iscrowd": 0}
    entry.update((key, detection[key]) for key in ("category_id", "score"))
    if iou_type == "segm":
        rle = detection["segmentation"]
        return {**entry, "segmentation": rle, "area": float(mask_util.area(rle))}
    box = detection["bbox"]
    return {**entry, "bbox": box, "area": box[2] * box[3]}
