"""Panoptic quality: matching of segments and the figures, on arrays alone.

Kirillov, He, Girshick, Rother and Dollar, "Panoptic Segmentation", CVPR 2019, section 4.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segment:
    """One region of a panoptic map. A crowd is ground truth that is neither found nor missed."""

    class_index: int
    is_crowd: bool = False


@dataclass(frozen=True)
class PanopticMap:
    """ids: (H, W), integers: 0 is void, i + 1 belongs to segments[i], which may have no pixel at all."""

    ids: np.ndarray
    segments: list[Segment]


@dataclass
class PanopticCounts:
    """Sums over images, one entry per class: IoU of the matched pairs, and how many pairs and leftovers."""

    iou: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray

    @classmethod
    def zeros(cls, num_classes: int) -> "PanopticCounts":
        return cls(np.zeros(num_classes), *(np.zeros(num_classes, dtype=np.int64) for _ in range(3)))

    def __iadd__(self, other: "PanopticCounts") -> "PanopticCounts":
        self.iou += other.iou
        self.true_positives += other.true_positives
        self.false_positives += other.false_positives
        self.false_negatives += other.false_negatives
        return self


def count_matches(true: PanopticMap, predicted: PanopticMap, num_classes: int) -> PanopticCounts:
    """Match the segments of one image.

    Two segments of the same class match where their IoU is over 0.5, void pixels of the ground truth taken
    out of the union; such a match is unique. An unmatched predicted segment of which more than half lies in
    void or in crowd of its own class is left out.
    """
    true_classes, predicted_classes = _classes(true), _classes(predicted)
    overlap = _joint_histogram(true, predicted)
    true_areas, predicted_areas = overlap.sum(axis=1)[1:], overlap.sum(axis=0)[1:]
    in_void, overlap = overlap[0, 1:], overlap[1:, 1:]
    same_class = true_classes[:, None] == predicted_classes[None, :]
    crowds = np.array([segment.is_crowd for segment in true.segments], dtype=bool)

    union = true_areas[:, None] + (predicted_areas - in_void)[None, :] - overlap
    iou = overlap / np.maximum(union, 1)
    matched = (iou > 0.5) & same_class & ~crowds[:, None]

    in_own_crowd = (overlap * (same_class & crowds[:, None])).sum(axis=0)
    not_counted = in_void + in_own_crowd > 0.5 * predicted_areas
    missed = ~matched.any(axis=1) & ~crowds & (true_areas > 0)
    wrong = ~matched.any(axis=0) & ~not_counted & (predicted_areas > 0)

    counts = PanopticCounts.zeros(num_classes)
    matched_classes = true_classes[np.nonzero(matched)[0]]
    counts.iou += np.bincount(matched_classes, weights=iou[matched], minlength=num_classes)
    counts.true_positives += np.bincount(matched_classes, minlength=num_classes)
    counts.false_positives += np.bincount(predicted_classes[wrong], minlength=num_classes)
    counts.false_negatives += np.bincount(true_classes[missed], minlength=num_classes)
    return counts


def _classes(panoptic_map: PanopticMap) -> np.ndarray:
    return np.array([segment.class_index for segment in panoptic_map.segments], dtype=np.int64)


def _joint_histogram(true: PanopticMap, predicted: PanopticMap) -> np.ndarray:
    """Pixels of every pair of ids, in one pass whatever the number of segments: (1 + T, 1 + P), int64."""
    rows, columns = len(true.segments) + 1, len(predicted.segments) + 1
    joint = true.ids.astype(np.int64) * columns + predicted.ids
    return np.bincount(joint.ravel(), minlength=rows * columns).reshape(rows, columns)


def panoptic_quality(counts: PanopticCounts, class_names: list[str], num_things: int) -> dict[str, float]:
    """PQ, SQ, RQ, the same over things (_th) and over stuff (_st), and PQ-<class>; in 0..100.

    Means are over classes with any segment, found, missed or wrong; NaN where there is none. The first
    ``num_things`` classes are things.
    """
    tp = counts.true_positives
    total = tp + 0.5 * counts.false_positives + 0.5 * counts.false_negatives
    seen = total > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        per_class = {
            "PQ": np.where(seen, counts.iou / total, np.nan),
            "SQ": np.where(seen, counts.iou / np.maximum(tp, 1), np.nan),
            "RQ": np.where(seen, tp / total, np.nan),
        }
    groups = {"": slice(None), "_th": slice(0, num_things), "_st": slice(num_things, None)}
    figures = {
        name + suffix: _mean(values[group]) for suffix, group in groups.items() for name, values in per_class.items()
    }
    for name, value in zip(class_names, per_class["PQ"], strict=True):
        figures[f"PQ-{name}"] = 100.0 * float(value)
    return figures


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return 100.0 * float(defined.mean()) if defined.size else float("nan")
