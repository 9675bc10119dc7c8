"""The networks of a comparison before anything is trained: each can be trained, and each task has its reference."""

import dataclasses

from detectron2.config import CfgNode

from ..engine.config_checks import check_solver
from ..engine.defaults import setup_cfg
from ..engine.trial_network import build_trial
from ..tasks import TaskBranch
from .description import Candidate, Comparison
from .plan import candidate_cfg, search_runs, stages_of
from .rules import Metric
from .yaml_values import OWN_KEYS, ComparisonError


def check_networks(comparison: Comparison) -> list[Metric]:
    """The metric of every task that has a reference, with its name.

    Raises:
        ComparisonError: a network cannot be built or trained, a reference has not one task, two references have the
            same, or a joint network has a task without a reference.
    """
    metrics: dict[str, Metric] = {}
    for candidate in comparison.of_role("reference"):
        (metric, *others) = _metrics(comparison, candidate, answers_alone=True)
        if others:
            tasks = ", ".join(m.task for m in (metric, *others))
            raise ComparisonError(
                f"{comparison.name}: references.{candidate.name}: MODEL.MTL.TASKS: found {tasks}, expected one task, "
                "and those that it depends on."
            )
        if metric.task in metrics:
            raise ComparisonError(f"{comparison.name}: references: two are for {metric.task!r}; remove one.")
        metrics[metric.task] = dataclasses.replace(metric, reference=candidate.name)
    for candidate in comparison.of_role("joint", "grid"):
        for metric in _metrics(comparison, candidate):
            if metrics.get(metric.task) != metric:
                raise ComparisonError(
                    f"{comparison.name}: {candidate.name} is scored by {metric.name} for {metric.task!r}, of which "
                    "there is no reference; add one, or take the task out of MODEL.MTL.TASKS."
                )
    _check_search(comparison)
    return list(metrics.values())


def _metrics(comparison: Comparison, candidate: Candidate, *, answers_alone: bool = False) -> list[Metric]:
    """Of each task that has an answer; ``answers_alone`` without those that other tasks of the network depend on."""
    cfg = candidate_cfg(comparison, candidate)
    _check_stages(comparison, candidate, cfg)
    try:
        check_solver(cfg, comparison.processes)
        branches: dict[str, TaskBranch] = build_trial(cfg).branches  # type: ignore[assignment]
    except (ValueError, ImportError) as error:
        raise ComparisonError(f"{comparison.name}: {candidate.name}: {error}") from error
    needed = {name for branch in branches.values() for name in branch.depends_on} if answers_alone else set()
    scored = {task: branch for task, branch in branches.items() if branch.metric and task not in needed}
    return [Metric(task, branch.metric, branch.higher_is_better) for task, branch in scored.items()]


def _check_stages(comparison: Comparison, candidate: Candidate, cfg: CfgNode) -> None:
    """What a stage sets wins over what the comparison sets: data, seeds, and the values that are searched."""
    searched = comparison.search.values if comparison.search else ()
    for stage in stages_of(cfg):
        for key in stage:
            where = f"{comparison.name}: {candidate.name}: SOLVER.MTL.STAGES, stage {stage.get('NAME')!r}: {key}"
            if key in OWN_KEYS:
                raise ComparisonError(f"{where} is set by the comparison itself; remove it.")
            if key in searched:
                raise ComparisonError(f"{where} is searched, but a stage keeps its own; set it for all.")


def _check_search(comparison: Comparison) -> None:
    """The first run of each network's search: what is shorter has to be a training too."""
    for (name, number, fold), run in search_runs(comparison).items():
        if (number, fold) == (0, 0):
            try:
                check_solver(setup_cfg(run.config, run.words), comparison.processes)
            except (ValueError, ImportError) as error:
                raise ComparisonError(f"{comparison.name}: search: {name}: {error}") from error
