"""An image and its labels between augmentation and targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from ..structures.box_masks import BoxMask

Window = tuple[slice, slice]


@dataclass(kw_only=True)
class LabelledImage:
    """An image of H x W pixels with its labels as they lie in it after augmentation; None is a label that it lacks.

    Attributes:
        record: in Detectron2's dataset form.
        fields: those of the record that are no labels.
        transforms: what was applied to the image.
        image: (H, W, C) uint8.
        objects: N annotations of the record, crowds left out.
        boxes: (N, 4) float32 XYXY in pixels.
        crowd_boxes: (C, 4), likewise; None without a crowd.
        keypoints: of the N objects, (N, K, 3) float32: x, y in pixels and visibility.
        masks: of the N objects.
        crowds: regions of objects that were not told apart; empty unless edges are derived.
        sem_seg: (H, W) uint8 semantic ids.
        edge: (H, W) uint8 in {0, 1, 255}, where edges are read from a file.
        inside: rows and columns that are not padding; None where nothing is.
    """

    record: dict[str, Any]
    fields: dict[str, Any]
    transforms: T.TransformList
    image: np.ndarray
    objects: list[dict[str, Any]] | None = None
    boxes: np.ndarray | None = None
    crowd_boxes: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    masks: list[BoxMask] | None = None
    crowds: list[BoxMask] = field(default_factory=list)
    sem_seg: np.ndarray | None = None
    edge: np.ndarray | None = None
    inside: Window | None = None

    @property
    def size(self) -> tuple[int, int]:
        """H and W in pixels."""
        return self.image.shape[:2]


def source_boxes(annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return (N, 4) float64 XYXY boxes of annotations, in pixels of the image that they were drawn on."""
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    return np.array(boxes, np.float64).reshape(-1, 4)
