"""Edge scores of a set of images: what the evaluator, the function on arrays and the command have in common."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from .edge_checks import check_ground_truth, check_polarity, check_prob
from .edge_counts import BENCHMARK, CRISP, HALF_TOLERANCE, image_counts
from .edge_options import EdgeOptions
from .edge_pool import ScoringPool, default_workers
from .edge_scores import EdgeScores, best_of_each, edge_scores

Counts = dict[str, np.ndarray]
GroundTruth = np.ndarray | Sequence[np.ndarray]
_END = object()
_ENDLESS: Iterator[None] = itertools.repeat(None)


@dataclass(frozen=True)
class EdgeSet:
    """Counts and scores of N images.

    Attributes:
        names: of the images.
        counts: ``{"benchmark": (N, T, 4), ...}``, see ``image_counts``.
        options: that they were counted with.
    """

    names: tuple[str, ...]
    counts: Counts
    options: EdgeOptions

    @classmethod
    def of(cls, counts: dict[str, Counts], options: EdgeOptions) -> "EdgeSet":
        """Of ``{image: what image_counts returned}``, in its order."""
        names = list(counts)
        kinds = [BENCHMARK] + [HALF_TOLERANCE] * options.half_tolerance + [CRISP] * options.crisp
        shape = len(names), options.thresholds, 4
        stacked = {kind: np.array([counts[name][kind] for name in names], np.int64).reshape(shape) for kind in kinds}
        return cls(tuple(names), stacked, options)

    @property
    def scores(self) -> EdgeScores:
        """The benchmark's."""
        return edge_scores(self.counts[BENCHMARK])

    @property
    def without_edges(self) -> tuple[str, ...]:
        """Images whose ground truth has no edge: what is predicted there is wrong, and nothing can be missed."""
        empty = self.counts[BENCHMARK][:, 0, 3] == 0
        return tuple(name for name, is_empty in zip(self.names, empty, strict=True) if is_empty)

    @property
    def predicts_nothing(self) -> bool:
        """Whether no pixel of any image passes any threshold."""
        return bool((self.counts[BENCHMARK][:, :, 1] == 0).all())

    def metrics(self) -> dict[str, float]:
        """ODS, OIS, AP, R50 and ODS_threshold, and ODS_half and ODS_crisp where they were counted; in [0, 1]."""
        scores = self.scores
        result = {"ODS": scores.ODS, "OIS": scores.OIS, "AP": scores.AP, "R50": scores.R50}
        result["ODS_threshold"] = scores.ods_threshold
        for kind, metric in ((HALF_TOLERANCE, "ODS_half"), (CRISP, "ODS_crisp")):
            if kind in self.counts:
                result[metric] = edge_scores(self.counts[kind]).ODS
        return result

    def per_image(self) -> list[dict[str, Any]]:
        """Of each image its name, its best F and the threshold of that."""
        best, index = best_of_each(self.counts[BENCHMARK])
        thresholds = self.scores.thresholds[index]
        rows = zip(self.names, best.tolist(), thresholds.tolist(), strict=True)
        return [{"name": name, "F": f, "threshold": threshold} for name, f, threshold in rows]


def score_edges(
    predictions: Iterable[np.ndarray],
    ground_truths: Iterable[GroundTruth],
    *,
    ignore: Iterable[np.ndarray | None] | None = None,
    names: Sequence[str] | None = None,
    options: EdgeOptions | None = None,
    jobs: int | None = None,
) -> EdgeSet:
    """Score the edge maps of a set of images as the BSDS benchmark does, by true maximum matching.

    Args:
        predictions: of each image (H, W) floats in [0, 1]. A generator need not hold all images at once.
        ground_truths: of each image one (H, W) array, nonzero at edges, or several, one of each annotator. Lines one
            pixel wide, taken as they are.
        ignore: of each image (H, W) bool, true where the label is unknown, or None; None where all is known.
        names: of the images, for errors and results; None numbers them.
        options: None for the benchmark's, with the half-tolerance and the crisp score beside them.
        jobs: scoring processes; None for one per core, 0 for this process.

    Returns:
        Its ``metrics()`` are the figures, its ``scores`` have the precision and recall curves.

    Raises:
        ValueError: there is no image, lengths or sizes differ, an image has no annotator, a map is not within [0, 1] or
            looks inverted (see ``check_polarity``); the message names the image.

    Example:
        >>> score_edges([prob], [edge], jobs=0).metrics()["ODS"]
    """
    options = options or EdgeOptions()
    ignored = _ENDLESS if ignore is None else ignore
    items = _aligned({"predictions": predictions, "ground_truths": ground_truths, "ignore": ignored}, names)
    calls = ((name, (*item, options, name)) for name, item in items)
    return EdgeSet.of(score_all(calls, score_image, jobs, total=None if names is None else len(names)), options)


def score_image(
    prob: np.ndarray, gts: GroundTruth, ignore: np.ndarray | None, options: EdgeOptions, name: str
) -> Counts:
    """``image_counts`` of a map that somebody else made: it must not look inverted either."""
    maps = check_ground_truth(gts, name)
    check_prob(prob, maps[0].shape, name)
    check_polarity(prob, maps, name)
    return image_counts(prob, maps, ignore, options, name=name)


def score_all(
    calls: Iterable[tuple[str, tuple[Any, ...]]], score: Callable[..., Counts], jobs: int | None, total: int | None
) -> dict[str, Counts]:
    """``{name: score(*arguments)}`` in the order of the calls, in ``jobs`` processes and with a progress bar.

    Raises:
        ValueError: there is no image, two have one name, or what ``score`` raises.
    """
    pool = ScoringPool(default_workers() if jobs is None else jobs)
    names: dict[str, None] = {}
    try:
        for name, arguments in tqdm(calls, total=total, desc="images", unit="image", disable=None):
            if name in names:
                raise ValueError(f"Two images have the name {name}: names must differ.")
            names[name] = None
            pool.submit(name, score, *arguments)
        if not names:
            raise ValueError("There is no image to score, expected one or more.")
        results = pool.finish()
        return {name: results[name] for name in names}
    finally:
        pool.close()


def _aligned(
    columns: Mapping[str, Iterable[Any]], names: Sequence[str] | None
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Name and values of each image; every column but endless ones must be as long."""
    iterators = [iter(column) for column in columns.values()]
    for index in itertools.count():
        item = [next(iterator, _END) for iterator in iterators]
        ended = [key for key, value in zip(columns, item, strict=True) if value is _END]
        left = [key for key, column in columns.items() if key not in ended and column is not _ENDLESS]
        if ended and left:
            raise ValueError(
                f"{ended[0]} has {index} images and {left[0]} has more, expected as many: each image needs both."
            )
        if names is not None and (index == len(names)) != bool(ended):
            raise ValueError(f"names has {len(names)} entries, expected one for each image of predictions.")
        if ended:
            return
        yield f"image {index}" if names is None else names[index], tuple(item)
