"""A record's labels in its original size, for drawing."""

from collections.abc import Callable
from typing import Any

import numpy as np
from detectron2.data import detection_utils
from detectron2.structures import Keypoints

from mtl_d2.structures import read_semantic_ids
from mtl_d2.visualization.own_cells import OWN_CELLS

Labels = dict[str, Any]
Record = dict[str, Any]


def read_labels(
    record: Record,
    ignore_label: int = 255,
    *,
    read_edges: Callable[[Record, int], np.ndarray] | None = None,
    read_image_labels: Callable[[Record], np.ndarray | None] | None = None,
) -> Labels:
    """What the record is labelled with: an absent key is a label that it does not have.

    Args:
        record: in Detectron2's dataset form.
        ignore_label: void in the semantic PNG.
        read_edges: makes the edge label from the record and ``ignore_label``, such as
            ``mtl_d2.evaluation.edge_ground_truth.ground_truth_edges``, which the scores are made with; None leaves
            edges out.
        read_image_labels: makes the labels of the whole image from the record, None where it has none, such as
            ``mtl_d2.evaluation.classification.record_image_labels``; None leaves them out.

    Returns:
        instances: Instances with gt_boxes, gt_classes and, where all objects have one, gt_masks; crowds left
            out
        keypoints: Keypoints (N, K, 3) of those instances that have some
        sem_seg: (H, W), semantic ids
        edge: (H, W), uint8 in {0, 1, 255 ignored}
        image_labels: (K,), 1, 0 or, where unknown, -1
        and what cells of ``register_cell`` read
    """
    labels: Labels = {}
    if "annotations" in record:
        labels["instances"] = _read_instances(record)
        keypoints = [a["keypoints"] for a in record["annotations"] if "keypoints" in a]
        if keypoints:
            labels["keypoints"] = Keypoints(np.array(keypoints).reshape(len(keypoints), -1, 3))
    if "sem_seg_file_name" in record:
        labels["sem_seg"] = read_semantic_ids(record)
    if read_edges is not None and ("edge_file_name" in record or record.get("edge_source") not in (None, "none")):
        labels["edge"] = read_edges(record, ignore_label)
    image_labels = read_image_labels(record) if read_image_labels is not None else None
    if image_labels is not None:
        labels["image_labels"] = image_labels
    for key, cell in OWN_CELLS.items():
        label = cell.read_label(record) if cell.read_label else None
        if label is not None:
            labels[key] = label
    return labels


def _read_instances(record: Record) -> Any:
    # transform_instance_annotations converts in place, hence the copies.
    annotations = [
        {key: value for key, value in a.items() if key != "keypoints"}
        for a in record["annotations"]
        if not a.get("iscrowd", 0)
    ]
    with_masks = all("segmentation" in annotation for annotation in annotations)
    if not with_masks:
        for annotation in annotations:
            annotation.pop("segmentation", None)
    return detection_utils.annotations_to_instances(
        annotations, (record["height"], record["width"]), mask_format="bitmask"
    )
