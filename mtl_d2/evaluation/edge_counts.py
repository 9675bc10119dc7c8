"""Matched edge pixels of one image at each threshold, from which ``edge_scores`` are computed.

Arbelaez, Maire, Fowlkes and Malik, "Contour detection and hierarchical image segmentation", PAMI 2011,
section 3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mtl_d2.structures import edge_nms
from mtl_d2.structures.thinning import PixelThinner

from .edge_checks import check_ground_truth, check_ignore, check_prob
from .edge_matching import FREE, Matching, build_graph
from .edge_options import EdgeOptions

BENCHMARK, HALF_TOLERANCE, CRISP = "benchmark", "half_tolerance", "crisp"


def image_counts(
    prob: np.ndarray,
    gts: np.ndarray | Sequence[np.ndarray],
    ignore: np.ndarray | None = None,
    options: EdgeOptions | None = None,
    *,
    name: str = "the image",
) -> dict[str, np.ndarray]:
    """The counts behind every score that ``options`` ask for.

    Args:
        prob, gts, ignore: as of ``edge_counts``.
        options: None for the benchmark's.
        name: of the image, for errors.

    Returns:
        ``{"benchmark": (T, 4), "half_tolerance": ..., "crisp": ...}``, the last two where they are asked for.

    Raises:
        ValueError: as of ``edge_counts``; it names the image.
    """
    options = options or EdgeOptions()
    gts = check_ground_truth(gts, name)
    check_prob(prob, gts[0].shape, name)
    check_ignore(ignore, prob.shape, name)
    maps = _binary_maps(edge_nms(prob) if options.nms else prob, options.thresholds, options.thin)
    counts = {BENCHMARK: _match_maps(maps, gts, ignore, options.max_dist)}
    if options.half_tolerance:
        counts[HALF_TOLERANCE] = _match_maps(maps, gts, ignore, options.max_dist / 2)
    if options.crisp and (options.nms or options.thin):
        maps = _binary_maps(prob, options.thresholds, thin=False)
        counts[CRISP] = _match_maps(maps, gts, ignore, options.max_dist)
    elif options.crisp:
        counts[CRISP] = counts[BENCHMARK]
    return counts


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
    options = EdgeOptions(
        max_dist=max_dist, nms=nms, thin=thin, thresholds=thresholds, half_tolerance=False, crisp=False
    )
    return image_counts(prob, gts, ignore, options)[BENCHMARK]


@dataclass(frozen=True)
class _BinaryMaps:
    """Which binary map each threshold has, and the set pixels of each distinct one, few to many.

    levels: (T,), an index into ``positions``; -1 stands for the empty map.
    positions: of each map, flat indices.
    """

    shape: tuple[int, int]
    levels: np.ndarray
    positions: list[np.ndarray]


def _binary_maps(prob: np.ndarray, thresholds: int, thin: bool) -> _BinaryMaps:
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
    return _BinaryMaps(prob.shape, index - np.count_nonzero(sizes == 0), positions)


def _match_maps(maps: _BinaryMaps, gts: Sequence[np.ndarray], ignore: np.ndarray | None, max_dist: float) -> np.ndarray:
    radius = max_dist * float(np.hypot(*maps.shape))
    ignore = ignore if ignore is not None and ignore.any() else None
    true_pixels = [np.flatnonzero((gt != 0) if ignore is None else (gt != 0) & ~ignore) for gt in gts]
    ever = np.zeros(maps.shape, bool).reshape(-1)
    for position in maps.positions:
        ever[position] = True
    pixels = np.flatnonzero(ever)
    excusable = np.zeros(pixels.size, bool)
    if ignore is not None and pixels.size:
        excusable = (ndimage.distance_transform_edt(~ignore) <= radius).reshape(-1)[pixels]
    matchings = [Matching(build_graph(pixels, true, maps.shape, radius)) for true in true_pixels]
    counts = np.zeros((len(maps.positions), 4), np.int64)
    for row, position in zip(counts, maps.positions, strict=True):
        present = np.zeros(pixels.size, bool)
        present[np.searchsorted(pixels, position)] = True
        row[:] = _count(matchings, present, excusable)
    row_of_level = np.concatenate([counts, [[0, 0, 0, 0]]])[maps.levels]
    row_of_level[:, 3] = sum(true.size for true in true_pixels)
    return row_of_level


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
