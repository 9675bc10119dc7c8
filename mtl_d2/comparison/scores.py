"""The scores of finished runs, and what their evaluators kept of each image."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence

from ..engine.record import RunRecord
from ..evaluation.per_image import PerImage, read_per_image
from .bootstrap import Draws, draw, drawn_figures
from .execute import Runs
from .plan import Run
from .rules import Metric


def figure_of(record: RunRecord, metric: Metric, test_set: str = "") -> float:
    """The figure of a task on one of several test sets, or on the only one; NaN where it is undefined."""
    group, _, name = metric.name.rpartition("/")
    return record.results.get(f"{test_set}/{group}" if test_set else group, {}).get(name, math.nan)


def figures_of(record: RunRecord, metrics: Sequence[Metric], test_set: str = "") -> dict[str, float]:
    """``{task: figure}`` of the tasks that the run has."""
    group = f"{test_set}/" if test_set else ""
    own = [metric for metric in metrics if group + metric.name.rpartition("/")[0] in record.results]
    return {metric.task: figure_of(record, metric, test_set) for metric in own}


def kept_images(runs: Runs, run: Run, metrics: Sequence[Metric]) -> dict[str, PerImage]:
    """``{task: statistics of each image of the first test set}``; without the tasks whose evaluator keeps none.

    The images have their names below the folder that holds them all: a run is used again wherever its data lie.
    """
    folder = runs.place(run) / run.last_stage / "inference" / run.test_sets[0]
    found = {metric.task: read_per_image(folder, metric.name) for metric in metrics}
    kept = {task: images for task, images in found.items() if images is not None}
    folders = {os.path.dirname(os.path.abspath(name)) for images in kept.values() for name in images.names}
    root = os.path.commonpath(folders) if folders else ""
    return {
        task: dataclasses.replace(images, names=tuple(os.path.relpath(name, root) for name in images.names))
        for task, images in kept.items()
    }


def draw_figures(
    runs: Runs, finished: Mapping[str, Sequence[Run]], metrics: Sequence[Metric], count: int
) -> tuple[dict[str, dict], Draws]:
    """``{network: {task: figures in each draw}}`` of networks with a run for every seed, and the draws.

    A network whose statistics of a task are of other images than the reference's has none of it: draws of these would
    be no pairs.

    Args:
        finished: ``{network: [a run per seed]}``.
        count: number of draws.
    """
    kept = {name: [kept_images(runs, run, metrics) for run in group] for name, group in finished.items()}
    scored = {
        metric.task: {*kept[metric.reference][0][metric.task].names}
        for metric in metrics
        if metric.reference in kept and metric.task in kept[metric.reference][0]
    }
    names = sorted(set().union(*scored.values()))
    num_seeds = max((len(group) for group in kept.values()), default=1)
    draws = draw(max(len(names), 1), num_seeds, count)
    figures: dict[str, dict] = {}
    for network, group in kept.items():
        tasks = [t for t, of in scored.items() if all(t in run and {*run[t].names} == of for run in group)]
        figures[network] = {task: drawn_figures([of[task] for of in group], names, draws) for task in tasks}
    return figures, draws
