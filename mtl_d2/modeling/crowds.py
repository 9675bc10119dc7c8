"""Regions of objects that were not told apart: neither an object nor background."""

import torch
from detectron2.structures import Boxes, Instances, pairwise_ioa
from torch import Tensor

# COCO's rule for crowds: what lies in one by at least this fraction of its own area is neither right nor wrong.
MIN_COVERAGE = 0.5


def set_crowds(instances: Instances, boxes: Tensor | None) -> None:
    """Note the crowds of an image at its ground truth, for :func:`in_crowd`; in place.

    Args:
        instances: ground truth, without the crowds. Not a field of it: there may be another number of them.
        boxes: (C, 4) XYXY in pixels, or None.
    """
    instances._crowd_boxes = boxes


def in_crowd(boxes: Boxes, instances: Instances) -> Tensor:
    """(R,) bool: which of R boxes lie in a crowd of the image by MIN_COVERAGE of their area or more."""
    crowds = getattr(instances, "_crowd_boxes", None)
    if crowds is None or not len(crowds):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    coverage = pairwise_ioa(Boxes(crowds.to(boxes.device)), boxes)  # (C, R): intersection over area of the second
    return coverage.amax(dim=0) >= MIN_COVERAGE
