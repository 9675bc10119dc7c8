"""ODS, OIS and AP of soft edge maps, as the BSDS benchmark defines them.

Arbelaez, Maire, Fowlkes and Malik, "Contour detection and hierarchical image segmentation", PAMI 2011,
section 3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mtl_d2.structures import edge_nms
from mtl_d2.structures.thinning import PixelThinner

from .edge_matching import FREE, Matching, build_graph


@dataclass(frozen=True)
class EdgeScores:
    """Scores of a set of images, all in [0, 1]. ``precision`` and ``recall`` have one value per threshold.

    ``ODS`` is F where precision and recall are interpolated linearly at ``ods_threshold``.
    """

    ODS: float
    OIS: float
    AP: float
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


def check_prob(prob: np.ndarray, shape: tuple[int, int], name: str = "the image") -> None:
    """Raise a ValueError unless ``prob`` is an edge map of ``shape`` with values in [0, 1]."""
    if prob.shape != tuple(shape):
        raise ValueError(
            f"The edge map of {name} must have its ground truth's size, {tuple(shape)}, found {prob.shape}: "
            "resize it to the height and width of the record."
        )
    if not np.issubdtype(prob.dtype, np.floating):
        raise ValueError(f"The edge map of {name} must be of floats in [0, 1], found {prob.dtype}.")
    if prob.size and not (prob.min() >= 0 and prob.max() <= 1):
        found = "NaN" if np.isnan(prob).any() else f"{prob.min():g} to {prob.max():g}"
        raise ValueError(
            f"The edge map of {name} must be within [0, 1], found {found}: pass probabilities, not logits."
        )


def edge_counts(
    prob: np.ndarray,
    gts: np.ndarray | Sequence[np.ndarray],
    ignore: np.ndarray | None = None,
    *,
    max_dist: float = 0.0075,
    nms: bool = True,
    thin: bool = True,
    thresholds: int = 99,
) -> np.ndarray:
    """Counts of matched edge pixels of one image, at each threshold.

    The map is suppressed, rounded to 8 bits, and cut at the thresholds k / (thresholds + 1), k = 1 ..
    thresholds; each binary map is thinned and matched with every annotator's pixels.

    A predicted pixel that is unmatched and lies within the matching radius of an ignored pixel is left out:
    it might have been matched, were the label known. Pixels that cannot be left out are matched first, so
    that the counts are unique although the matching is not. With several annotators a predicted pixel is
    matched if any of them matched it; which one that is depends on the matching, here greedy by distance
    wherever that loses no pair.

    Args:
        prob: (H, W) floats in [0, 1].
        gts: one (H, W) array or several, one per annotator, nonzero at edges; thinned
            lines (see ``ground_truth_edges``).
        ignore: (H, W) bool, pixels whose label is unknown, or None. No ground truth is counted there.
        max_dist: matching radius as a fraction of the image diagonal.
        nms: whether to apply ``edge_nms``; a crisp map does without.
        thin: whether to thin each binary map.
        thresholds: number of thresholds T.

    Returns:
        (T, 4) int64: predicted pixels matched, predicted pixels, true pixels matched, true pixels.

    Raises:
        ValueError: sizes differ, or ``prob`` is not within [0, 1].
    """
    gts = [gts] if isinstance(gts, np.ndarray) and gts.ndim == 2 else list(gts)
    for gt in gts:
        check_prob(prob, gt.shape)
    if ignore is not None:
        check_prob(prob, ignore.shape)
        ignore = ignore if ignore.any() else None
    radius = max_dist * float(np.hypot(*prob.shape))
    levels, positions = _distinct_maps(edge_nms(prob) if nms else prob, thresholds, thin)
    true_pixels = [np.flatnonzero((gt != 0) if ignore is None else (gt != 0) & ~ignore) for gt in gts]
    ever = np.zeros(prob.size, bool)
    for position in positions:
        ever[position] = True
    pixels = np.flatnonzero(ever)
    excusable = np.zeros(pixels.size, bool)
    if ignore is not None and pixels.size:
        excusable = (ndimage.distance_transform_edt(~ignore) <= radius).reshape(-1)[pixels]
    matchings = [Matching(build_graph(pixels, true, prob.shape, radius)) for true in true_pixels]
    counts = np.zeros((len(positions), 4), np.int64)
    for row, position in zip(counts, positions, strict=True):
        present = np.zeros(pixels.size, bool)
        present[np.searchsorted(pixels, position)] = True
        row[:] = _count(matchings, present, excusable)
    row_of_level = np.concatenate([counts, [[0, 0, 0, 0]]])[levels]
    row_of_level[:, 3] = sum(true.size for true in true_pixels)
    return row_of_level


def _distinct_maps(prob: np.ndarray, thresholds: int, thin: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Which binary map each threshold has, and the positions of the set pixels of each, few to many.

    Index -1 stands for the empty map.
    """
    quantised = np.floor(prob * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    # v / 255 >= k / (T + 1), in integers.
    cuts = -(-255 * np.arange(1, thresholds + 1) // (thresholds + 1))
    values = quantised.reshape(-1)
    candidates = np.flatnonzero(values >= cuts[0])
    candidates = candidates[np.argsort(255 - values[candidates], kind="stable")]
    at_least = np.bincount(values, minlength=256)[::-1].cumsum()[::-1]
    # The maps are nested: as many pixels are the same pixels.
    sizes, index = np.unique(at_least[cuts], return_inverse=True)
    keep = PixelThinner(prob.shape) if thin else np.asarray
    positions = [keep(candidates[:size]) for size in sizes[sizes > 0]]
    return index - np.count_nonzero(sizes == 0), positions


def _count(matchings: list[Matching], present: np.ndarray, excusable: np.ndarray) -> tuple[int, int, int, int]:
    matched = np.zeros(present.size, bool)
    matched_true = 0
    for matching in matchings:
        if len(matchings) > 1:
            # The union over annotators depends on the matching: do not let it depend on the thresholds
            # before.
            matching.restrict(np.zeros_like(present))
        if excusable.any():
            # Growing never unmatches a pixel: those that must be counted go first.
            matching.restrict(present & ~excusable)
            matching.grow(present & ~excusable)
        else:
            matching.restrict(present)
        matching.grow(present)
        matched |= matching.of_pred != FREE
        matched_true += int(np.count_nonzero(matching.of_true != FREE))
    counted = present & (matched | ~excusable)
    return int(matched.sum()), int(counted.sum()), matched_true, 0


def edge_scores(counts: np.ndarray) -> EdgeScores:
    """Scores from the counts of a set of images.

    Sums of zero divide by one, so that a map without predictions has precision 0.

    - ODS: best F of the summed counts, with precision and recall interpolated linearly between neighbouring
      thresholds in 100 steps. F is 2 P R / (P + R).
    - OIS: F of the sum of each image's counts at its own best threshold.
    - AP: mean precision, interpolated over recall 0 : 0.01 : 1 with zero outside the range reached, times
      0.01 per point as in the benchmark.

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
        return EdgeScores(np.nan, np.nan, np.nan, np.nan, none, none)
    levels = _thresholds(num_thresholds)
    precision, recall = _precision_recall(counts.sum(axis=0))
    ods, ods_threshold = _best_between(levels, precision, recall)
    best = _f_measure(*_precision_recall(counts)).argmax(axis=1)
    ois = _f_measure(*_precision_recall(counts[np.arange(len(counts)), best].sum(axis=0)))
    return EdgeScores(ods, float(ois), _area(precision, recall), ods_threshold, precision, recall)


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
