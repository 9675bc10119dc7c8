"""One cell per task: each function draws one answer at the size of the cell. Images are RGB, uint8."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.structures import Instances
from torch import Tensor

from mtl_d2.visualization.canvas import (
    GREY,
    WHITE,
    Color,
    blend,
    palette_color,
    paste,
    resize_mask,
    scaled_size,
    text_color,
    text_tile,
)

MAX_LABELS = 15  # more labels hide the image
MAX_BOXES = 40  # and more boxes
VOID_COLOR, VOID_STRIPES = (60, 60, 60), (130, 130, 130)


def resize_image(image: np.ndarray, scale: float) -> np.ndarray:
    """The image at the size of the cell."""
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(image, scaled_size(image, scale), interpolation=interpolation)


def mask_frames(instances: Instances) -> Iterable[np.ndarray] | None:
    """N masks (H, W) bool, of ``pred_masks`` or ``pred_box_masks``; None where there are neither."""
    if instances.has("pred_box_masks"):
        return instances.pred_box_masks
    return np.asarray(instances.pred_masks, dtype=bool) if instances.has("pred_masks") else None


def class_map(sem_seg: Tensor) -> Tensor:
    """Labels (H, W), as they are or of logits (K, H, W)."""
    return sem_seg if sem_seg.dim() == 2 else sem_seg.argmax(dim=0)


def draw_instances(
    image: np.ndarray,
    scale: float,
    *,
    boxes: np.ndarray,
    classes: Sequence[int],
    class_names: Sequence[str],
    masks: Iterable[np.ndarray] | None = None,
    scores: Sequence[float] | None = None,
) -> np.ndarray:
    """Boxes, and masks and scores where there are any; colours tell instances apart.

    Args:
        boxes: (N, 4), x0 y0 x1 y1 in pixels of the image.
        masks: N of (H, W), bool.
    """
    canvas = resize_image(image, scale)
    size = canvas.shape[1], canvas.shape[0]
    for index, small_mask in enumerate([] if masks is None else masks):
        mask = resize_mask(small_mask, size)
        color = palette_color(index)
        blend(canvas, mask, color, 0.45)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, color, 1, cv2.LINE_AA)
    if masks is None or len(classes) <= MAX_BOXES:
        for index, box in enumerate(np.round(np.asarray(boxes) * scale).astype(int).tolist()):
            cv2.rectangle(canvas, tuple(box[:2]), tuple(box[2:]), palette_color(index), 1)
    for index in _named(np.asarray(boxes), several=len(class_names) > 1 and scores is None):
        # Of a single class the name says nothing.
        known = len(class_names) > classes[index]  # a label's class may be none of the network's
        name = class_names[classes[index]] if known else f"class {classes[index]}"
        name = name if len(class_names) > 1 or scores is None else ""
        score = "" if scores is None else f"{scores[index]:.2f}"
        tile = _label(f"{name} {score}".strip(), palette_color(index))
        paste(canvas, tile, boxes[index][0] * scale, boxes[index][1] * scale - tile.shape[0])
    return canvas


def _named(boxes: np.ndarray, *, several: bool) -> list[int]:
    """Which boxes get a label: all; of too many the largest where their classes may differ, else none."""
    if len(boxes) <= MAX_LABELS:
        return list(range(len(boxes)))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.argsort(-areas, kind="stable")[:MAX_LABELS].tolist() if several else []


def _label(text: str, color: Color) -> np.ndarray:
    return text_tile(text, text_color(color), color, 11)


def class_color(index: int, colors: Sequence[Color] | None) -> Color:
    """The dataset's colour of a class where it has one, else one of the palette."""
    if not colors:
        return palette_color(index)
    red, green, blue = colors[index]
    return int(red), int(green), int(blue)


def draw_sem_seg(
    image: np.ndarray,
    scale: float,
    *,
    labels: np.ndarray,
    num_classes: int,
    colors: Sequence[Color] | None = None,
) -> np.ndarray:
    """Classes as colours over the grey image; pixels with a label that is no class (void) are dark and striped.

    Args:
        labels: (H, W), integers.
    """
    table = np.array([class_color(i, colors) for i in range(num_classes)] + [VOID_COLOR], dtype=np.uint8)
    ids = np.minimum(labels, num_classes)
    canvas = _over_grey(image, table[ids], scale)
    void = cv2.resize((ids == num_classes).astype(np.uint8), scaled_size(image, scale), interpolation=0)
    _stripe(canvas, void.astype(bool))
    return canvas


def _stripe(canvas: np.ndarray, mask: np.ndarray) -> None:
    """Draw diagonal stripes on the pixels of a mask."""
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    canvas[mask & ((x + y) % 8 < 2)] = VOID_STRIPES


def _over_grey(image: np.ndarray, colored: np.ndarray, scale: float) -> np.ndarray:
    """Flat colours, sharp at their borders, with the image's light and shade in them."""
    size = scaled_size(image, scale)
    grey = cv2.cvtColor(cv2.cvtColor(resize_image(image, scale), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(cv2.resize(colored, size, interpolation=cv2.INTER_NEAREST), 0.7, grey, 0.3, 0)


def draw_edge(probability: np.ndarray, scale: float, *, ignored: np.ndarray | None = None) -> np.ndarray:
    """Edges dark on white, as the field prints them; ignored pixels grey.

    Args:
        probability: (H, W), in [0, 1].
        ignored: (H, W), bool.
    """
    ink = np.clip(probability, 0, 1).astype(np.float32)
    size = scaled_size(ink, scale)
    if scale < 1:
        # The mean would fade a thin line away: take the strongest of the pixels that become one.
        ink = cv2.dilate(ink, np.ones((math.ceil(1 / scale),) * 2, np.uint8))
    cell = cv2.cvtColor((255 * (1 - ink)).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    if ignored is not None:
        cell[ignored] = GREY
    return cv2.resize(cell, size, interpolation=cv2.INTER_NEAREST)


def draw_panoptic(
    image: np.ndarray,
    scale: float,
    *,
    ids: np.ndarray,
    segments: Sequence[dict[str, Any]],
    thing_names: Sequence[str],
    stuff_names: Sequence[str],
    stuff_colors: Sequence[Color] | None = None,
) -> np.ndarray:
    """Stuff in the colour of its class, things in colours of their own, white lines between, names on the
    larger.

    Args:
        ids: (H, W), integers, 0 is void.
        segments: dicts with "id", "isthing" and "category_id".
    """
    table = np.full((int(max([0, *(s["id"] for s in segments)])) + 1, 3), VOID_COLOR, dtype=np.uint8)
    things = 0
    for segment in segments:
        if segment["isthing"]:
            table[segment["id"]] = palette_color(things)
            things += 1
        else:
            table[segment["id"]] = class_color(segment["category_id"], stuff_colors)
    canvas = _over_grey(image, table[ids], scale)
    large = cv2.resize(ids.astype(np.int32).astype(np.float32), (canvas.shape[1], canvas.shape[0]), interpolation=0)
    borders = np.zeros(large.shape, dtype=bool)
    borders[:, 1:] |= large[:, 1:] != large[:, :-1]
    borders[1:] |= large[1:] != large[:-1]
    canvas[borders] = WHITE
    if len(segments) <= 2 * MAX_LABELS:  # small segments get no name
        for segment in segments:
            names = thing_names if segment["isthing"] else stuff_names
            red, green, blue = table[segment["id"]].tolist()
            _name_segment(canvas, large == segment["id"], names[segment["category_id"]], (red, green, blue))
    return canvas


def _name_segment(canvas: np.ndarray, mask: np.ndarray, name: str, color: Color) -> None:
    """Write the name where the segment is thickest, if it is thick enough to stay visible around it."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    if depth[y, x] < 12:
        return
    tile = _label(name, color)
    paste(canvas, tile, x - tile.shape[1] / 2, y - tile.shape[0] / 2)


def draw_note(size: tuple[int, int], text: str) -> np.ndarray:
    """A pale cell that says why there is no picture.

    Args:
        size: (height, width) in pixels.
    """
    background = (240, 240, 240)
    cell = np.full((*size, 3), background, dtype=np.uint8)
    tile = text_tile(text, (90, 90, 90), background, 16)
    paste(cell, tile, (size[1] - tile.shape[1]) / 2, (size[0] - tile.shape[0]) / 2)
    return cell


def draw_legend(size: tuple[int, int], names: Sequence[str], colors: Sequence[Color | None]) -> np.ndarray:
    """Names beside their colours, in as many columns as needed; what does not fit is counted in the last
    line.

    Args:
        size: (height, width) in pixels.
        colors: None for void.
    """
    cell = np.full((*size, 3), 255, dtype=np.uint8)
    row_height, column_width = 20, 130
    rows, columns = max(1, (size[0] - 8) // row_height), max(1, size[1] // column_width)
    room = rows * columns
    shown = len(names) if len(names) <= room else room - 1
    for index in range(shown):
        column, row = divmod(index, rows)
        x, y = column * column_width + 8, row * row_height + 8
        swatch = cell[y : y + 14, x : x + 14]
        swatch[:] = colors[index] or VOID_COLOR
        if colors[index] is None:
            _stripe(swatch, np.ones(swatch.shape[:2], dtype=bool))
        paste(cell, text_tile(names[index][:16], (40, 40, 40), WHITE, 11), x + 18, y - 1)
    if shown < len(names):
        column, row = divmod(shown, rows)
        tile = text_tile(f"and {len(names) - shown} more", (40, 40, 40), WHITE, 11)
        paste(cell, tile, column * column_width + 8, row * row_height + 7)
    return cell
