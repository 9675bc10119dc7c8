"""ODS, OIS, AP and R50 of soft edge maps, as the BSDS benchmark defines them.

Arbelaez, Maire, Fowlkes and Malik, "Contour detection and hierarchical image segmentation", PAMI 2011,
section 3.1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class EdgeScores:
    """Scores of a set of images, all in [0, 1]. ``precision`` and ``recall`` have one value per threshold.

    ``ODS`` is F where precision and recall are interpolated linearly at ``ods_threshold``. Without an image all are
    NaN.
    """

    ODS: float
    OIS: float
    AP: float
    R50: float
    ods_threshold: float
    precision: np.ndarray
    recall: np.ndarray

    @property
    def thresholds(self) -> np.ndarray:
        """k / (T + 1), k = 1 .. T."""
        return _thresholds(len(self.precision))

    @property
    def f_measure(self) -> np.ndarray:
        """2 P R / (P + R) at each threshold, 0 where both are 0."""
        return _f_measure(self.precision, self.recall)

    def as_curve(self, dataset: str) -> dict[str, Any]:
        """What ``edge_pr.json`` holds: the curve by threshold; null for what is undefined, since NaN is no JSON."""
        defined = not np.isnan(self.ODS)
        curve = {"precision": self.precision, "recall": self.recall, "f": self.f_measure}
        return {
            "dataset": dataset,
            "threshold": self.thresholds.tolist(),
            **{key: values.tolist() if defined else None for key, values in curve.items()},
            "ODS": self.ODS if defined else None,
            "ODS_threshold": self.ods_threshold if defined else None,
        }


def edge_scores(counts: np.ndarray) -> EdgeScores:
    """Scores from the counts of a set of images.

    Sums of zero divide by one, so that a map without predictions has precision 0.

    - ODS: best F of the summed counts, with precision and recall interpolated linearly between neighbouring
      thresholds in 100 steps. F is 2 P R / (P + R).
    - OIS: F of the sum of each image's counts at its own best threshold.
    - AP: mean precision, interpolated over recall 0 : 0.01 : 1 with zero outside the range reached, times
      0.01 per point as in the benchmark.
    - R50: recall at a precision of 0.5, interpolated between the thresholds sorted by precision (of equal precision
      the greatest recall); the recall of the lowest precision where all are above 0.5, and 0 where none reaches it.
      Dollar and Zitnick's evaluation has it like that. A threshold that no pixel passes takes no part, which is our
      reading: it has no precision.

    Args:
        counts: (N, T, 4), from ``edge_counts``.

    Returns:
        The scores; with no image they are NaN.
    """
    if counts.ndim != 3 or counts.shape[-1] != 4 or counts.shape[1] == 0:
        raise ValueError(f"counts must have the shape (images, thresholds, 4), found {counts.shape}.")
    num_thresholds = counts.shape[1]
    if len(counts) == 0:
        none = np.full(num_thresholds, np.nan)
        return EdgeScores(np.nan, np.nan, np.nan, np.nan, np.nan, none, none)
    levels = _thresholds(num_thresholds)
    total = counts.sum(axis=0)
    precision, recall = _precision_recall(total)
    predicted = total[:, 1] > 0
    ods, ods_threshold = _best_between(levels, precision, recall)
    best = best_of_each(counts)[1]
    ois = _f_measure(*_precision_recall(counts[np.arange(len(counts)), best].sum(axis=0)))
    return EdgeScores(
        ODS=ods,
        OIS=float(ois),
        AP=_area(precision, recall),
        R50=_recall_at(0.5, precision[predicted], recall[predicted]),
        ods_threshold=ods_threshold,
        precision=precision,
        recall=recall,
    )


def best_of_each(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the best F and its threshold's index, (N,) and (N,), from counts (N, T, 4).

    Of equal ones the first, as in the benchmark. Where none is above 0, as without a true edge, it is the last of those
    with the fewest pixels, all of which are wrong: our reading, as the benchmark's images all have edges.
    """
    f_measure = _f_measure(*_precision_recall(counts))
    fewest = counts.shape[1] - 1 - counts[:, ::-1, 1].argmin(axis=1)
    return f_measure.max(axis=1), np.where(f_measure.any(axis=1), f_measure.argmax(axis=1), fewest)


def _thresholds(count: int) -> np.ndarray:
    return np.arange(1, count + 1) / (count + 1)


def _precision_recall(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    matched_pred, pred, matched_true, true = np.moveaxis(counts, -1, 0)
    return matched_pred / np.maximum(pred, 1), matched_true / np.maximum(true, 1)


def _f_measure(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return 2 * precision * recall / np.where(total == 0, 1, total)


def _best_between(levels: np.ndarray, precision: np.ndarray, recall: np.ndarray) -> tuple[float, float]:
    if len(levels) == 1:
        return float(_f_measure(precision, recall)[0]), float(levels[0])
    weight = np.linspace(0, 1, 100)
    mixed = [x[:-1, None] * (1 - weight) + x[1:, None] * weight for x in (precision, recall, levels)]
    f_measure = _f_measure(mixed[0], mixed[1])
    best = f_measure.argmax()
    return float(f_measure.flat[best]), float(mixed[2].flat[best])


def _area(precision: np.ndarray, recall: np.ndarray) -> float:
    reached, first = np.unique(recall, return_index=True)
    grid = np.arange(101) / 100
    return float(np.interp(grid, reached, precision[first], left=0, right=0).sum() * 0.01)


def _recall_at(wanted: float, precision: np.ndarray, recall: np.ndarray) -> float:
    order = np.lexsort((-recall, precision))
    reached, first = np.unique(precision[order], return_index=True)
    return float(np.interp(wanted, reached, recall[order][first], right=0)) if reached.size else 0.0
