"""What may be said of figures: how much better, whether a reference is trained, and what a win is."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TRAINED_PERCENT = 2.0  # that a third more steps may move a trained reference
DEVIATIONS = 2.0  # of the grid, that a balancer has to be above it


@dataclass(frozen=True)
class Metric:
    """The figure that stands for a task.

    name: "<group>/<figure>" of a run's results.
    reference: the network that has the task alone, but for tasks that it depends on; "" without one.
    """

    task: str
    name: str
    higher_is_better: bool = True
    reference: str = field(default="", compare=False)


def relative_change(value: float, reference: float, higher_is_better: bool = True) -> float:
    """(value - reference) / reference in percent, with the sign turned where lower is better: positive is better.

    NaN where the reference is 0.
    """
    if reference == 0:
        return float("nan")
    return (100 if higher_is_better else -100) * (value - reference) / reference


def delta_m(values: Mapping[str, float], references: Mapping[str, float], metrics: Sequence[Metric]) -> float:
    """Mean over the tasks of the signed relative change, in percent; positive is better.

    Source: Maninis, Radosavovic and Kokkinos, Attentive Single-Tasking of Multiple Tasks, CVPR 2019, equation 1;
    Vandenhende et al., Multi-Task Learning for Dense Prediction Tasks: A Survey, TPAMI 2021, equation 10.

    Args:
        values, references: ``{task: figure}``.
        metrics: of the tasks that count.
    """
    return statistics.fmean(relative_change(values[m.task], references[m.task], m.higher_is_better) for m in metrics)


def moved_percent(reference: float, longer: float) -> float:
    """By how much more steps move a reference, in percent of it; infinite where it is 0."""
    return abs(100 * (longer - reference) / reference) if reference else float("inf")


def is_trained(reference: float, longer: float) -> bool:
    """Whether a third more steps move the figure by less than 2 %; false of NaN."""
    return moved_percent(reference, longer) < TRAINED_PERCENT


@dataclass(frozen=True)
class GridVerdict:
    """A candidate held against the grid of tuned fixed weights; delta_m in percent.

    margin: its mean delta_m less that of the best point of the grid.
    deviation: standard deviation over the seeds of a point of the grid, pooled; None where a point has one seed.
    better: margin > 2 deviations; None where nothing can be said.
    why: of None.
    """

    best: str
    margin: float
    deviation: float | None
    better: bool | None
    why: str = ""


def held_against_grid(
    deltas: Sequence[float],
    grid: Mapping[str, Sequence[float]],
    images: int,
    grid_images: Sequence[int],
    missing: Sequence[str] = (),
) -> GridVerdict:
    """Whether a candidate is better than tuned fixed weights.

    Args:
        deltas: delta_m of the candidate, one per seed.
        grid: the same of each point of the grid.
        images: that a run of the candidate is trained on; of equal cost is a grid with as many.
        grid_images: those of each point's runs.
        missing: points that should be in the grid: one of them may be the best.
    """
    means = {name: statistics.fmean(values) for name, values in grid.items()}
    best = max(means, key=lambda name: means[name])
    margin = statistics.fmean(deltas) - means[best]
    if missing:
        return GridVerdict(best, margin, None, None, f"of the grid {', '.join(missing)} is missing")
    if any(len(values) < 2 for values in grid.values()):
        return GridVerdict(best, margin, None, None, "one seed has no standard deviation")
    # Pooled: that of one point from two or three seeds is hardly known.
    deviation = statistics.fmean(statistics.variance(values) for values in grid.values()) ** 0.5
    if any(count != images for count in grid_images):
        return GridVerdict(best, margin, deviation, None, "its training sees another number of images than the grid's")
    return GridVerdict(best, margin, deviation, margin > DEVIATIONS * deviation)
