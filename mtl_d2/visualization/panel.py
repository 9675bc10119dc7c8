"""A panel: every answer about one image side by side, its labels in a second row."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.data.catalog import Metadata

from mtl_d2.visualization.canvas import WHITE, Color, drawing_scale, paste, scaled_size, text_tile
from mtl_d2.visualization.cells import (
    class_color,
    class_map,
    draw_edge,
    draw_instances,
    draw_legend,
    draw_panoptic,
    draw_sem_seg,
    mask_frames,
    resize_image,
)
from mtl_d2.visualization.image_labels import draw_image_labels
from mtl_d2.visualization.keypoints import draw_keypoints
from mtl_d2.visualization.labels import Labels
from mtl_d2.visualization.own_cells import OWN_CELLS

GAP, TITLE_HEIGHT = 8, 24
COLUMNS = ("instances", "keypoints", "sem_seg", "edge", "panoptic_seg", "image_labels")

Cell = tuple[str, np.ndarray] | None


def draw_panel(
    image: np.ndarray,
    prediction: dict[str, Any],
    metadata: Metadata,
    *,
    labels: Labels | None = None,
    score_threshold: float = 0.5,
    name: str = "",
) -> np.ndarray:
    """Input, instances, keypoints, semantics, edges, panoptic segmentation and image labels, where there are any.

    Answers of other tasks are shown where ``register_cell`` said how.

    Args:
        image: (H, W, 3), uint8, RGB.
        prediction: the model's output for this image, in its size; or the compact form of
            :class:`mtl_d2.Predictor` for large images, best after ``reduce_for_drawing``.
        metadata: the dataset's: class names, and colours where it has them.
        labels: of ``read_labels``, drawn in a second row; None for none.
        score_threshold: instances below it are not drawn.
        name: shown in the title.

    Returns:
        RGB, uint8. Small images are enlarged, large ones reduced, so that a cell's longer side is about 512
        pixels.
    """
    scale = drawing_scale(*image.shape[:2])
    predicted = _predicted_cells(image, scale, prediction, metadata, score_threshold)
    truth = label_cells(image, scale, labels or {}, metadata)
    if predicted and "keypoints" not in predicted:  # they come with the instances' labels, and few networks answer them
        truth.pop("keypoints", None)
    columns = [c for c in (*COLUMNS, *OWN_CELLS) if c in predicted or c in truth]
    first: Cell = (f"Input {name}".strip(), resize_image(image, scale))
    legend = legend_cell(image, scale, prediction, labels or {}, metadata)
    if truth:
        rows = [[first, *(predicted.get(c) for c in columns)], [legend, *(truth.get(c) for c in columns)]]
    else:
        rows = [[first, *(predicted.get(c) for c in columns), *([legend] if legend else [])]]
    width, height = scaled_size(image, scale)
    return np.concatenate([draw_row(row, height, width) for row in rows], axis=0)


def _predicted_cells(
    image: np.ndarray, scale: float, prediction: dict[str, Any], metadata: Metadata, threshold: float
) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    if "instances" in prediction:
        instances = prediction["instances"].to("cpu")
        instances = instances[instances.scores >= threshold]
        cell = draw_instances(
            image,
            scale,
            boxes=instances.pred_boxes.tensor.numpy(),
            classes=instances.pred_classes.tolist(),
            class_names=metadata.thing_classes,
            masks=mask_frames(instances),
            scores=instances.scores.tolist(),
        )
        cells["instances"] = (f"Instances ({len(instances)} with score ≥ {threshold:g})", cell)
        if instances.has("pred_keypoints"):
            cells["keypoints"] = ("Keypoints", draw_keypoints(image, scale, instances.pred_keypoints, metadata))
    if "sem_seg" in prediction:
        classes = class_map(prediction["sem_seg"]).cpu().numpy()
        cells["sem_seg"] = ("Semantic", _draw_sem_seg(image, scale, classes, metadata))
    if "edge" in prediction:
        cells["edge"] = ("Edges", draw_edge(prediction["edge"].float().cpu().numpy(), scale))
    if "panoptic_seg" in prediction:
        ids, segments = prediction["panoptic_seg"]
        cell = draw_panoptic(
            image,
            scale,
            ids=ids.cpu().numpy(),
            segments=segments,
            thing_names=metadata.get("thing_classes", ()),
            stuff_names=metadata.get("stuff_classes", ()),
            stuff_colors=metadata.get("stuff_colors", None),
        )
        cells["panoptic_seg"] = (f"Panoptic ({len(segments)} segments)", cell)
    if "image_labels" in prediction:
        size = scaled_size(image, scale)[::-1]
        cells["image_labels"] = (
            "Image labels",
            draw_image_labels(size, prediction["image_labels"].cpu(), metadata, scores=True),
        )
    return cells | _own_cells(image, scale, prediction, "")


def label_cells(image: np.ndarray, scale: float, labels: Labels, metadata: Metadata) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    if "instances" in labels:
        instances = labels["instances"]
        cell = draw_instances(
            image,
            scale,
            boxes=instances.gt_boxes.tensor.numpy(),
            classes=instances.gt_classes.tolist(),
            class_names=metadata.thing_classes,
            masks=instances.gt_masks.tensor.numpy() if instances.has("gt_masks") else None,
        )
        cells["instances"] = (f"Labelled instances ({len(instances)})", cell)
    if "keypoints" in labels:
        points = labels["keypoints"].tensor
        count = int((points[..., 2] > 0).sum())
        cells["keypoints"] = (f"Labelled keypoints ({count})", draw_keypoints(image, scale, points, metadata))
    if "sem_seg" in labels:
        cells["sem_seg"] = ("Labelled semantics", _draw_sem_seg(image, scale, labels["sem_seg"], metadata))
    if "edge" in labels:
        ignored = labels["edge"] == 255
        share = f" ({ignored.mean():.1%} ignored, grey)" if ignored.any() else ""
        cells["edge"] = (f"Labelled edges{share}", draw_edge(labels["edge"] == 1, scale, ignored=ignored))
    if "image_labels" in labels:
        size = scaled_size(image, scale)[::-1]
        cells["image_labels"] = (
            "Labelled classes",
            draw_image_labels(size, labels["image_labels"], metadata, scores=False),
        )
    return cells | _own_cells(image, scale, labels, "Labelled ")


def _own_cells(image: np.ndarray, scale: float, answers: dict[str, Any], prefix: str) -> dict[str, Cell]:
    size = scaled_size(image, scale)
    return {
        key: (
            (prefix + cell.title).capitalize(),
            cv2.resize(cell.draw(answers[key]), size, interpolation=cv2.INTER_NEAREST),
        )
        for key, cell in OWN_CELLS.items()
        if key in answers
    }


def _draw_sem_seg(image: np.ndarray, scale: float, classes: np.ndarray, metadata: Metadata) -> np.ndarray:
    num_classes, colors = len(metadata.stuff_classes), metadata.get("stuff_colors", None)
    return draw_sem_seg(image, scale, labels=classes, num_classes=num_classes, colors=colors)


def legend_cell(
    image: np.ndarray, scale: float, prediction: dict[str, Any], labels: Labels, metadata: Metadata
) -> Cell:
    """Names and colours of the semantic classes in the picture, and void where it is labelled; None where there are
    none."""
    present: set[int] = set()
    if "sem_seg" in prediction:
        present |= set(class_map(prediction["sem_seg"]).unique().tolist())
    elif "panoptic_seg" in prediction:
        present |= {s["category_id"] for s in prediction["panoptic_seg"][1] if not s["isthing"]}
    if "sem_seg" in labels:
        present |= set(np.unique(labels["sem_seg"]).tolist())
    stuff_classes = metadata.get("stuff_classes", ())
    classes = sorted(c for c in present if c < len(stuff_classes))
    void = "sem_seg" in labels and max(present, default=-1) >= len(stuff_classes)
    if not classes and not void:
        return None
    width, height = scaled_size(image, scale)
    names = [stuff_classes[c] for c in classes]
    colors: list[Color | None] = [class_color(c, metadata.get("stuff_colors", None)) for c in classes]
    if void:
        names, colors = [*names, "void (ignored)"], [*colors, None]
    return "Semantic classes", draw_legend((height, width), names, colors)


def draw_row(cells: Sequence[Cell], height: int, width: int) -> np.ndarray:
    """Cells beside each other, each with its title; None leaves a space free.

    Args:
        cells: pictures of ``height`` x ``width`` pixels at most; smaller ones lie in the upper left corner.
    """
    row = np.full((height + TITLE_HEIGHT + GAP, len(cells) * (width + GAP) + GAP, 3), 255, dtype=np.uint8)
    for index, cell in enumerate(cells):
        if cell is None:
            continue
        left = GAP + index * (width + GAP)
        title, picture = cell
        bar = np.full((TITLE_HEIGHT, width, 3), 255, dtype=np.uint8)
        paste(bar, text_tile(title, (30, 30, 30), WHITE, 13), -3, 4)
        row[:TITLE_HEIGHT, left : left + width] = bar
        right, bottom = left + picture.shape[1], TITLE_HEIGHT + picture.shape[0]
        cv2.rectangle(row, (left - 1, TITLE_HEIGHT - 1), (right, bottom), (200, 200, 200), 1)
        row[TITLE_HEIGHT:bottom, left:right] = picture
    return row


def draw_overview(panels: Sequence[np.ndarray], width: int = 1800) -> np.ndarray:
    """Panels below each other at one scale, the widest as wide as ``width`` (pixels); RGB, uint8."""
    scale = min(1.0, width / max(panel.shape[1] for panel in panels))
    small = [cv2.resize(panel, scaled_size(panel, scale), interpolation=cv2.INTER_AREA) for panel in panels]
    widest = max(panel.shape[1] for panel in small)
    padded = [np.pad(panel, ((0, GAP), (0, widest - panel.shape[1]), (0, 0)), constant_values=255) for panel in small]
    return np.concatenate(padded, axis=0)
