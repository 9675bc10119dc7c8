"""A record's labels in its original size, for drawing."""

from typing import Any

import numpy as np
from detectron2.data import detection_utils
from PIL import Image

from mtl_d2.structures.edges import edges_from_ids, id_map

Labels = dict[str, Any]


def read_labels(record: dict[str, Any], ignore_label: int = 255) -> Labels:
    """What the record is labelled with: an absent key is a label that it does not have.

    Returns:
        instances: Instances with gt_boxes, gt_classes and, where all objects have one, gt_masks; crowds left
            out
        sem_seg: (H, W), semantic ids
        edge: (H, W), uint8 in {0, 1, 255 ignored}
    """
    labels: Labels = {}
    if "annotations" in record:
        labels["instances"] = _read_instances(record)
    if "sem_seg_file_name" in record:
        labels["sem_seg"] = np.asarray(Image.open(record["sem_seg_file_name"]))
    if "edge_file_name" in record:
        labels["edge"] = (np.asarray(Image.open(record["edge_file_name"])) > 0).astype(np.uint8)
    elif "edge_source" in record:
        labels["edge"] = _derive_edge(record, labels, ignore_label)
    return labels


def _read_instances(record: dict[str, Any]) -> Any:
    # transform_instance_annotations converts in place, hence the copies.
    annotations = [dict(a) for a in record["annotations"] if not a.get("iscrowd", 0)]
    with_masks = all("segmentation" in annotation for annotation in annotations)
    if not with_masks:
        for annotation in annotations:
            annotation.pop("segmentation", None)
    return detection_utils.annotations_to_instances(
        annotations, (record["height"], record["width"]), mask_format="bitmask"
    )


def _derive_edge(record: dict[str, Any], labels: Labels, ignore_label: int) -> np.ndarray:
    source = record["edge_source"]
    sem_seg = labels.get("sem_seg") if source in ("semantic", "union") else None
    size = (record["height"], record["width"])
    masks = np.zeros((0, *size), dtype=bool)
    ignore = np.zeros(size, dtype=bool) if sem_seg is None else sem_seg == ignore_label
    if source in ("instance", "union"):
        if labels["instances"].has("gt_masks"):
            masks = labels["instances"].gt_masks.tensor.numpy()
        ignore &= ~masks.any(axis=0)
        crowds = [dict(a) for a in record["annotations"] if a.get("iscrowd", 0) and "segmentation" in a]
        if crowds:
            crowd_masks = detection_utils.annotations_to_instances(crowds, size, mask_format="bitmask").gt_masks
            ignore |= crowd_masks.tensor.numpy().any(axis=0) & ~masks.any(axis=0)
    return edges_from_ids(id_map(masks, sem_seg, size=size), ignore)
