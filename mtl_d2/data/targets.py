"""Training targets of one image, made from its labels as they lie in the transformed image."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints

from mtl_d2.structures.edge_kinds import edges_of_kind, widen_edges
from mtl_d2.structures.edges import EDGE

from .edge_label import EDGE_LABELS, EdgeLabel, has_derived_edges
from .labelled_image import LabelledImage, Window
from .masks import BoxMask, draw_masks
from .schema import DatasetError

_UNKNOWN, _BACKGROUND = 0, 1  # ids of pixels; objects follow those of the background or of the semantic classes


def has_masks(annotations: Sequence[dict[str, Any]]) -> bool:
    """Return whether every object has its mask; boxes without masks are a label too, for the boxes alone."""
    return all("segmentation" in annotation for annotation in annotations)


def check_edge_source(record: dict[str, Any], source: str = "") -> None:
    """Refuse a record whose edges are to be derived from a label that it does not have.

    Args:
        record: of one image.
        source: INPUT.MTL.EDGE.SOURCE, in place of the record's own; "" for that.

    Raises:
        DatasetError: naming the record's image and the key.
    """
    if not has_derived_edges(record):
        return
    key = "INPUT.MTL.EDGE.SOURCE" if source else "edge_source"
    fix = "take another source, or " if source else ""
    source, name = source or record["edge_source"], record["file_name"]
    if source not in EDGE_LABELS:
        raise DatasetError(f"{name}: {key} is {source!r}, expected one of {', '.join(EDGE_LABELS)}.")
    for label in EDGE_LABELS[source]:
        if label not in record:
            raise DatasetError(
                f"{name}: {key} '{source}' needs '{label}', which the record lacks; {fix}leave edge_source out of a "
                "record without edge label."
            )
    if "annotations" in EDGE_LABELS[source] and not has_masks(record["annotations"]):
        raise DatasetError(
            f"{name}: {key} '{source}' needs a segmentation in each of its annotations; {fix}add them, or leave "
            "edge_source out."
        )


def instance_target(
    annotations: Sequence[dict[str, Any]],
    boxes: np.ndarray,
    masks: Sequence[BoxMask] | None,
    size: tuple[int, int],
    keypoints: np.ndarray | None = None,
) -> Instances:
    """Return Instances with gt_boxes, gt_classes and, where there are some, gt_masks (BitMasks) and gt_keypoints.

    Objects whose box or mask a crop has left empty are dropped, as Detectron2 does. An image without an
    object keeps all fields, with zero rows.

    Args:
        annotations: N objects in Detectron2's form, crowds left out.
        boxes: (N, 4) float32 XYXY in the transformed image.
        masks: their N masks there, or None.
        size: height and width of the transformed image in pixels.
        keypoints: (N, K, 3) there, or None.
    """
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.as_tensor(boxes))
    classes = [int(annotation["category_id"]) for annotation in annotations]
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    if keypoints is not None:
        instances.gt_keypoints = Keypoints(keypoints)
    if masks is None:
        return utils.filter_empty_instances(instances, by_mask=False)
    keep = instances.gt_boxes.nonempty(threshold=1e-5)
    keep &= torch.tensor([bool(mask.pixels.any()) for mask in masks], dtype=torch.bool)
    # Chosen before they are drawn: full frames are by far the largest part of a sample.
    frames = draw_masks([mask for mask, kept in zip(masks, keep.tolist(), strict=True) if kept], size)
    instances = instances[keep]
    instances.gt_masks = BitMasks(torch.from_numpy(frames))
    return instances


def edge_target(labelled: LabelledImage, ignore_value: int, options: EdgeLabel | None = None) -> np.ndarray | None:
    """Return the edges of an image, (H, W) uint8 in {0, 1, 255}: its own or derived ones; None without a label.

    Args:
        labelled: with the labels that its edges are derived from.
        ignore_value: void in its semantic map.
        options: how wide edges are; thin where None.
    """
    options = options or EdgeLabel()
    if labelled.edge is not None:
        return widen_edges(labelled.edge, options.kind, options.radius)
    if not has_derived_edges(labelled.record):
        return None
    keys = EDGE_LABELS[labelled.record["edge_source"]]
    uses_masks = "annotations" in keys
    return derive_edges(
        labelled.masks if uses_masks and labelled.masks else [],
        labelled.crowds if uses_masks else [],
        labelled.sem_seg if "sem_seg_file_name" in keys else None,
        labelled.size,
        ignore_value=ignore_value,
        inside=labelled.inside,
        options=options,
    )


def derive_edges(
    masks: Sequence[BoxMask],
    crowds: Sequence[BoxMask],
    sem_seg: np.ndarray | None,
    size: tuple[int, int],
    *,
    ignore_value: int = 255,
    inside: Window | None = None,
    options: EdgeLabel | None = None,
) -> np.ndarray:
    """Return the edges between objects, and between semantic classes where a semantic map is given.

    Equal to ``edges_of_kind(id_map(masks, sem_seg), ignore)``, painted within the masks' boxes. Ignored
    are the crowds' regions, the void of the semantic map and the padding of the image, where no object covers them.

    Args:
        masks: of the objects; the largest is painted first, of equal ones the later one lies on top.
        crowds: regions of objects that were not told apart.
        sem_seg: (H, W) uint8 semantic ids, or None for edges of objects alone.
        size: H and W in pixels.
        ignore_value: void in ``sem_seg``.
        inside: rows and columns that are not padding; None where nothing is.
        options: their kind and radius; thin where None.

    Returns:
        (H, W) uint8 in {0, 1, 255}.
    """
    options = options or EdgeLabel()
    ids, first_object = _background(sem_seg, size, ignore_value, len(masks))
    fill_padding(ids, inside, _UNKNOWN)
    for crowd in crowds:
        _paint(ids, crowd, _UNKNOWN)
    areas = [np.count_nonzero(mask.pixels) for mask in masks]
    for i in np.argsort(-np.asarray(areas, np.int64), kind="stable").tolist():
        _paint(ids, masks[i], first_object + int(i))
    all_known = sem_seg is None and inside is None and not crowds
    return edges_of_kind(ids, None if all_known else _UNKNOWN, options.kind, options.radius)


def _background(
    sem_seg: np.ndarray | None, size: tuple[int, int], ignore_value: int, num_objects: int
) -> tuple[np.ndarray, int]:
    """Return ids (H, W) without objects, and the first of the ``num_objects`` ids that are free.

    They are of the smallest type that has enough of them: bytes take half the time of anything wider.
    """
    if sem_seg is None:
        ids, first_object = np.full(size, _BACKGROUND, np.uint8), _BACKGROUND + 1
    else:
        # Turned round so that void comes to lie at _UNKNOWN; the ids may be any, as long as they stay distinct.
        ids = sem_seg - np.uint8(ignore_value)
        first_object = int(ids.max(initial=_BACKGROUND)) + 1
    largest = first_object + num_objects - 1
    dtype = next(kind for kind in (np.uint8, np.uint16, np.int32) if largest <= np.iinfo(kind).max)
    return ids.astype(dtype, copy=False), first_object


def transform_edges(edge: np.ndarray, transforms: T.TransformList, size: tuple[int, int]) -> np.ndarray:
    """Redraw a map of one-pixel edges in the transformed image.

    Resampled by nearest, thin lines break when an image shrinks and thicken when it grows. Here the edge
    pixels are points, neighbouring ones (8-connected) are joined by segments, and both are moved by their
    coordinates and drawn one pixel wide: lines stay connected and thin at every scale and transform.

    Args:
        edge: (H, W) an edge where it is not 0.
        transforms: what was applied to the image.
        size: height and width of the transformed image in pixels.

    Returns:
        (H', W') uint8 in {0, 1}.
    """
    mask = edge != 0
    drawn = np.zeros(size, np.uint8)
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return drawn
    centers = np.stack([xs, ys], axis=1) + 0.5  # Detectron2's coordinates: pixel x covers [x, x + 1)
    points = np.floor(transforms.apply_coords(centers)).astype(np.int32)
    inside = ((points >= 0) & (points < np.array(size[::-1]))).all(axis=1)
    drawn[points[inside, 1], points[inside, 0]] = EDGE
    order = np.full((mask.shape[0] + 1, mask.shape[1] + 2), -1, np.int32)
    order[ys, xs + 1] = np.arange(len(ys))
    segments = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        neighbour = order[ys + dy, xs + 1 + dx]
        joined = neighbour >= 0
        if dy and dx:  # around a corner the line has two sides; its diagonal would fill the corner
            joined &= (order[ys, xs + 1 + dx] < 0) & (order[ys + dy, xs + 1] < 0)
        here = np.flatnonzero(joined)
        segments.append(np.stack([points[here], points[neighbour[here]]], axis=1))
    cv2.polylines(drawn, list(np.concatenate(segments)), isClosed=False, color=EDGE)
    return drawn


def fill_padding(canvas: np.ndarray, inside: Window | None, value: int) -> None:
    """Write ``value`` into the padding of an (H, W) map, in place; ``inside`` None is no padding."""
    if inside is not None:
        kept = canvas[inside].copy()
        canvas[:] = value
        canvas[inside] = kept


def _paint(canvas: np.ndarray, mask: BoxMask, value: int) -> None:
    if mask.pixels.size:
        # Of numpy's ways to write through a mask the fastest takes twice as long.
        window = canvas[mask.window]
        cv2.copyTo(np.full(window.shape, value, canvas.dtype), mask.pixels.view(np.uint8), window)
