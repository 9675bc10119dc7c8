"""Intervals of relative changes, by a paired bootstrap over seeds and images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.per_image import PerImage
from .rules import Metric

COVERAGE = 95.0  # percent


@dataclass(frozen=True)
class Interval:
    """A percentile interval of 95 %."""

    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """Which seeds and images each of B draws has; shared by all networks, so that they are compared on the same.

    images: (B, N), how often each image is drawn.
    seeds: (B, S), indices of the seeds drawn.
    """

    images: np.ndarray
    seeds: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def draw(num_images: int, num_seeds: int, count: int = 1000, seed: int = 0) -> Draws:
    """Draw with replacement as many seeds, and as many images, as there are.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 8.3 and 13.3. With two or three
    seeds an interval is too narrow: of so few, a draw hardly differs from another.
    """
    rng = np.random.default_rng(seed)
    seeds = rng.integers(0, num_seeds, (count, num_seeds))
    images = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=count)
    return Draws(images=images, seeds=seeds)


def drawn_figures(runs: Sequence[PerImage], names: Sequence[str], draws: Draws) -> np.ndarray:
    """The mean figure of the runs of one network in each draw, (B,).

    Args:
        runs: the statistics of one run per seed.
        names: of the images that are drawn from.
    """
    figures = np.stack([run.figures(draws.images[:, run.reordered(names)]) for run in runs])
    return np.take_along_axis(figures.T, draws.seeds, axis=1).mean(axis=1)


def drawn_changes(values: np.ndarray, references: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """Relative change in percent in each draw, positive is better; see ``relative_change``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (100 if higher_is_better else -100) * (values - references) / references
    return np.where(np.isfinite(change), change, np.nan)


def percentile_interval(values: np.ndarray) -> Interval | None:
    """95 % of the draws lie in it; None where a figure is undefined in one of them."""
    if np.isnan(values).any():
        return None
    low, high = np.percentile(values, [(100 - COVERAGE) / 2, (100 + COVERAGE) / 2])
    return Interval(float(low), float(high))


def intervals(
    values: Mapping[str, np.ndarray], references: Mapping[str, np.ndarray], metrics: Sequence[Metric]
) -> dict[str, Interval | None]:
    """Intervals of each task's relative change, and of delta_m where every task has one.

    Args:
        values, references: ``{task: figures in each draw, (B,)}``; a task that is missing in one has none.
    """
    changes = {
        m.task: drawn_changes(values[m.task], references[m.task], m.higher_is_better)
        for m in metrics
        if m.task in values and m.task in references
    }
    result = {task: percentile_interval(change) for task, change in changes.items()}
    complete = 0 < len(changes) == len(metrics)
    result["delta_m"] = percentile_interval(np.mean(list(changes.values()), axis=0)) if complete else None
    return result
