"""The values that the search chose, from held-out training images alone."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .description import Candidate, Comparison
from .plan import trials
from .rules import Metric, delta_m
from .yaml_values import Overrides

Figures = Mapping[str, float]  # by task


@dataclass(frozen=True)
class Choice:
    """What was tried for a candidate.

    scores: one per trial, the mean over the folds: a reference's figure, or delta_m of a joint network against the
        references' best; NaN where it is undefined or a run failed.
    figures: ``{task: figure}`` of the best trial.
    """

    values: Overrides
    tried: list[Overrides]
    scores: list[float]
    figures: dict[str, float]


def choose(
    comparison: Comparison, metrics: Sequence[Metric], found: Mapping[tuple[str, int, int], Figures]
) -> dict[str, Choice]:
    """The best trial of each candidate; one of which every trial failed, or a reference's, is left out.

    Args:
        metrics: of all tasks.
        found: ``{(candidate, trial, fold): {task: figure}}`` of the runs that did not fail.
    """
    choices: dict[str, Choice] = {}
    references: dict[str, float] = {}
    tasks = {metric.reference: metric.task for metric in metrics}
    for candidate in comparison.of_role("reference"):
        if choice := _choose_one(comparison, candidate, metrics, found, {}):
            choices[candidate.name] = choice
            own = tasks[candidate.name]
            references |= {own: choice.figures[own]} if own in choice.figures else {}
    for candidate in comparison.of_role("joint", "grid"):
        if choice := _choose_one(comparison, candidate, metrics, found, references):
            choices[candidate.name] = choice
    return choices


def _choose_one(
    comparison: Comparison,
    candidate: Candidate,
    metrics: Sequence[Metric],
    found: Mapping[tuple[str, int, int], Figures],
    references: Figures,
) -> Choice | None:
    tried = trials(comparison, candidate)
    if comparison.search is None or len(tried) == 1 and candidate.role != "reference":  # nothing to choose from
        return Choice(values=tried[0], tried=tried, scores=[math.nan], figures={})
    folds = range(comparison.search.held_out)
    means, scores = [], []
    for number in range(len(tried)):
        runs = [found[candidate.name, number, fold] for fold in folds if (candidate.name, number, fold) in found]
        complete = len(runs) == len(folds)
        tasks = dict.fromkeys(task for run in runs for task in run)  # a fold may have no label of one: NaN
        mean = {task: statistics.fmean(run.get(task, math.nan) for run in runs) for task in tasks}
        means.append(mean if complete else {})
        scores.append(_score(candidate, means[-1], references, metrics) if complete else math.nan)
    if not any(means) or candidate.role != "reference" and {*max(means, key=len)} - {*references}:
        return None
    best = max(range(len(tried)), key=lambda i: (bool(means[i]), -math.inf if math.isnan(scores[i]) else scores[i]))
    return Choice(values=tried[best], tried=tried, scores=scores, figures=means[best])


def _score(candidate: Candidate, figures: Figures, references: Figures, metrics: Sequence[Metric]) -> float:
    """delta_m against the references; of a reference its task's figure, the sign turned where lower is better.

    NaN where there is none.
    """
    if candidate.role == "reference":
        (own,) = (metric for metric in metrics if metric.reference == candidate.name)
        return figures.get(own.task, math.nan) * (1 if own.higher_is_better else -1)
    scored = [metric for metric in metrics if metric.task in figures]
    return delta_m(figures, references, scored) if {*figures} <= {*references} else math.nan
