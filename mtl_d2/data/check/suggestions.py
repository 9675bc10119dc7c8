"""Config values that a dataset's statistics speak for, each with its reason."""

import math
from typing import Any, NamedTuple

import numpy as np

from .statistics import DatasetStatistics

STRIDES = (4, 8, 16, 32, 64)  # of p2 to p6
SMALL = 16.0  # pixels of the input: an object of half the smallest usual anchor
LONGEST = 1333  # pixels of the input's longer side, Detectron2's
USUAL_RATIOS = (0.5, 1.0, 2.0)
_USED = 0.01  # share of the boxes that makes a level worth an anchor of its own
_RARE = 10.0  # times that a class is rarer than the median class


class Suggestion(NamedTuple):
    """A config key, or another thing to decide, its value, and why."""

    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        value = "" if self.value is None else f" {self.value}"
        return f"{self.key}{value}: {self.reason}"


def suggest(statistics: DatasetStatistics, input_size: tuple[int, int] | None = None) -> list[Suggestion]:
    """Suggestions for a dataset; fewer where it lacks labels.

    Args:
        statistics: of the training set.
        input_size: INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN in pixels that anchors are meant for; None: as suggested.
    """
    suggestions: list[Suggestion] = []
    if len(statistics.image_sizes) and input_size is None:
        input_size, reason = _input_size(statistics)
        suggestions.append(Suggestion("INPUT.MIN_SIZE_TRAIN, MAX_SIZE_TRAIN", input_size, reason))
    if len(statistics.boxes) and input_size is not None:
        scales = input_scales(statistics.box_image_sizes, input_size)
        suggestions += _anchors(statistics.boxes * scales[:, None])
    if len(statistics.instances_per_image):
        suggestions.append(_detections(statistics.instances_per_image))
    return suggestions + _imbalance(statistics)


def input_scales(image_sizes: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """Factors by which Detectron2's ResizeShortestEdge resizes images.

    Args:
        image_sizes: (N, 2) in pixels.
        input_size: shorter side, and bound of the longer side.

    Returns:
        (N,).
    """
    return np.minimum(input_size[0] / image_sizes.min(axis=1), input_size[1] / image_sizes.max(axis=1))


def anchor_sizes(boxes: np.ndarray) -> list[int]:
    """One anchor per level p2 to p6: the median of sqrt(area) of the boxes that lie nearest to 8 strides (by ratio).

    A level of less than 1 % of the boxes keeps 8 strides.

    Args:
        boxes: (M, 2) width and height in pixels of the input.
    """
    sizes = np.sqrt(boxes.prod(axis=1))
    levels = np.clip(np.round(np.log2(sizes / (8 * STRIDES[0]))), 0, len(STRIDES) - 1)
    found = []
    for level, stride in enumerate(STRIDES):
        own = sizes[levels == level]
        found.append(max(1, round(float(np.median(own)))) if len(own) >= _USED * len(sizes) else 8 * stride)
    return found


def aspect_ratios(boxes: np.ndarray) -> list[float]:
    """Up to three ratios height / width: the medians of the lowest, middle and highest third.

    Args:
        boxes: (M, 2) width and height.
    """
    ratios = np.exp(np.quantile(np.log(boxes[:, 1] / boxes[:, 0]), [1 / 6, 1 / 2, 5 / 6]))
    return sorted({round(float(ratio), 2) for ratio in ratios})


def anchor_overlap(boxes: np.ndarray, sizes: list[int], ratios: list[float]) -> float:
    """Mean over the boxes of the largest IoU with an anchor of the same centre, in [0, 1].

    Args:
        boxes: (M, 2) width and height.
        sizes: square roots of the anchors' areas.
        ratios: height / width.
    """
    best = np.zeros(len(boxes))
    for size in sizes:
        for ratio in ratios:
            anchor = np.array([size / math.sqrt(ratio), size * math.sqrt(ratio)])
            inter = np.minimum(boxes, anchor).prod(axis=1)
            best = np.maximum(best, inter / (boxes.prod(axis=1) + anchor.prod() - inter))
    return float(best.mean())


def _input_size(statistics: DatasetStatistics) -> tuple[tuple[int, int], str]:
    short = float(np.median(statistics.image_sizes.min(axis=1)))
    longest = float(np.median(statistics.image_sizes.max(axis=1)))
    if not len(statistics.boxes):
        scale, reason = 1.0, "the median image as it is"
    else:
        small = float(np.quantile(np.sqrt(statistics.boxes.prod(axis=1)), 0.1))
        scale = min(max(SMALL / small, 1.0), 4.0)
        reason = f"a tenth of the objects is smaller than {small:.0f} pixels (sqrt of the area)"
        if scale > 1:
            reason += f", {small * scale:.0f} at {scale:.1f} times the median image of {short:.0f} x {longest:.0f}"
        else:
            reason += f", large enough in the median image of {short:.0f} x {longest:.0f} as it is"
    scale = min(scale, max(1.0, LONGEST / longest)) if longest <= LONGEST else LONGEST / longest
    sides = (max(32, 32 * round(short * scale / 32)), max(32, math.ceil(longest * scale)))
    if longest * scale > LONGEST - 1:
        reason += f"; the longer side is held to {LONGEST}"
    return (sides[0], max(sides)), reason


def _anchors(boxes: np.ndarray) -> list[Suggestion]:
    sizes, ratios = anchor_sizes(boxes), aspect_ratios(boxes)
    usual = [8 * stride for stride in STRIDES]
    before = anchor_overlap(boxes, usual, list(USUAL_RATIOS))
    after = anchor_overlap(boxes, sizes, ratios)
    if after <= before + 0.01:
        reason = f"the usual ones fit: mean IoU {before:.2f} with the nearest anchor, {after:.2f} with the data's own"
        sizes, ratios = usual, list(USUAL_RATIOS)
    else:
        reason = f"mean IoU {after:.2f} with the nearest anchor, {before:.2f} with {usual} and {list(USUAL_RATIOS)}"
    medians = "the medians of the boxes of each of p2 to p6 at the input's size; "
    nested = [[size] for size in sizes]
    return [
        Suggestion("MODEL.ANCHOR_GENERATOR.SIZES", nested, medians + reason),
        Suggestion(
            "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [ratios], "height / width, medians of the thirds of the boxes"
        ),
    ]


def _detections(counts: np.ndarray) -> Suggestion:
    most = int(counts.max())
    value = max(100, 50 * math.ceil(most / 50))
    reason = f"up to {most} objects in an image, {float(np.mean(counts)):.1f} on average"
    return Suggestion("TEST.DETECTIONS_PER_IMAGE, max_dets of the dataset", value, reason)


def _imbalance(statistics: DatasetStatistics) -> list[Suggestion]:
    notes = []
    counts = statistics.images_per_class
    names = statistics.schema.thing_classes
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if absent and len(statistics.boxes):
        notes.append(Suggestion("thing_classes", None, f"no object of {_few(absent)}: leave out, or add some"))
    present = counts[counts > 0]
    if len(present) > 1 and np.median(present) >= _RARE * present.min():
        share = present.min() / max(1, statistics.labelled["instance"])
        rare = names[int(np.flatnonzero(counts == present.min())[0])]
        reason = (
            f"{rare!r} is in {present.min()} images, the median class in {np.median(present):.0f}; repeat factor "
            "sqrt(threshold / share of images) is 4 for it (Gupta et al., LVIS, 2019)"
        )
        threshold = min(16 * share, float(np.median(present)) / max(1, statistics.labelled["instance"]))
        notes.append(Suggestion("DATALOADER.REPEAT_THRESHOLD", round(threshold, 4), reason))
    pixels = statistics.semantic_pixels[: len(statistics.schema.stuff_classes)]
    shares = pixels / max(1, pixels.sum())
    thin = [n for n, s in zip(statistics.schema.stuff_classes, shares, strict=True) if 0 < s < 0.001]
    if thin:
        reason = f"{_few(thin)} have less than 0.1 % of the pixels: try focal or dice"
        notes.append(Suggestion("MODEL.MTL.SEM_SEG_HEAD.LOSS", "focal", reason))
    return notes


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
