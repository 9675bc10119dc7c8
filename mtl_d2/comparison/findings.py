"""What a comparison found, as a record that tables, plots and sentences are made from."""

import dataclasses
import datetime
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.record import portable_command, portable_word, short_commit
from .bootstrap import intervals
from .choose import Choice
from .costs import Cost
from .description import Candidate, Comparison
from .execute import Runs
from .plan import Run
from .rules import Metric, delta_m, held_against_grid, is_trained, moved_percent, relative_change
from .scores import draw_figures, figure_of, figures_of

Finished = Mapping[tuple[str, int], Run]  # by candidate and seed; all have a record
DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Found:
    """All that was run for a comparison.

    final, longer: the runs that have a record.
    searched: those of the search, finished or not.
    choices: of the search.
    failed: labels of runs.
    costs: by network; {} where they were not measured.
    """

    comparison: Comparison
    metrics: Sequence[Metric]
    runs: Runs
    final: Finished
    longer: Finished
    choices: Mapping[str, Choice]
    searched: Sequence[Run] = ()
    failed: Sequence[str] = ()
    costs: Mapping[str, Cost] = dataclasses.field(default_factory=dict)

    def group(self, name: str, runs: Finished | None = None) -> list[Run]:
        """The runs of a network, in the order of the seeds."""
        runs = self.final if runs is None else runs
        return [runs[name, seed] for seed in self.comparison.seeds if (name, seed) in runs]

    def is_complete(self, name: str) -> bool:
        return len(self.group(name)) == len(self.comparison.seeds)


def new_findings(found: Found, argv: Sequence[str], draws: int = DRAWS) -> dict[str, Any]:
    """The record. Networks that lack the run of a seed are left out, and named.

    Args:
        argv: the program and its arguments.
        draws: of the bootstrap.
    """
    comparison = found.comparison
    complete = [c for c in comparison.candidates if found.is_complete(c.name)]
    networks = {c.name: _network(found, c) for c in complete}
    references = {m.task: m.reference for m in found.metrics if m.reference in networks}
    drawn, drawn_from = draw_figures(found.runs, {c.name: found.group(c.name) for c in complete}, found.metrics, draws)
    of_reference = {task: drawn[name][task] for task, name in references.items() if task in drawn[name]}
    for candidate in complete:
        if candidate.role != "reference":
            network = networks[candidate.name]
            network.update(_against(found, network, networks, references))
            own = [m for m in found.metrics if m.task in network["val"]]
            network["interval"] = {
                key: interval and dataclasses.asdict(interval)
                for key, interval in intervals(drawn[candidate.name], of_reference, own).items()
            }
    _hold_against_grid(networks, [candidate.name for candidate in comparison.of_role("grid")])
    return {
        "comparison": comparison.name,
        "config": portable_word(comparison.config),
        "note": comparison.note,
        "seeds": list(comparison.seeds),
        "processes": comparison.processes,
        "threads": comparison.threads,
        "search": None if comparison.search is None else dataclasses.asdict(comparison.search),
        "metrics": [dataclasses.asdict(metric) for metric in found.metrics],
        "bootstrap": {"draws": draws, "images": drawn_from.images.shape[1], "seeds": len(comparison.seeds)},
        "references": {task: _trained(found, name, task, networks) for task, name in references.items()},
        "networks": networks,
        "sum": _sum([networks.get(metric.reference) for metric in found.metrics]),
        "missing": [c.name for c in comparison.candidates if c not in complete],
        "failed": list(found.failed),
        **_about(found, argv),
    }


def _network(found: Found, candidate: Candidate) -> dict[str, Any]:
    """The scores, {task: [one per seed]}, and what the network costs."""
    group = found.group(candidate.name)
    records = [_record(found, run) for run in group]
    val, train = group[0].test_sets
    own = [m for m in found.metrics if m.task in figures_of(records[0], found.metrics, val)]
    choice, cost = found.choices.get(candidate.name), found.costs.get(candidate.name)
    on_gpu = records[0].peak_memory_mib is not None
    peaks = [r.peak_memory_mib for r in records] if on_gpu else [found.runs.peak_memory_mib(run) for run in group]
    return {
        "role": candidate.role,
        "is_balancer": candidate.is_balancer,
        "overrides": {key: _plain(value) for key, value in candidate.overrides.items()},
        "val": {m.task: [figure_of(record, m, val) for record in records] for m in own},
        "train": {m.task: [figure_of(record, m, train) for record in records] for m in own},
        "images": group[0].images,
        "steps": group[0].steps,
        "train_seconds": [record.seconds["train"] for record in records],
        "peak_memory_mib": peaks,
        "chosen": None if choice is None else choice.values,
        "trials": [] if choice is None else _trials(choice),
        "cost": None if cost is None else dataclasses.asdict(cost),
    }


def _plain(value: Any) -> Any:
    return portable_word(value) if isinstance(value, str) else value


def _trials(choice: Choice) -> list[dict[str, Any]]:
    return [{"values": values, "score": score} for values, score in zip(choice.tried, choice.scores, strict=True)]


def _record(found: Found, run: Run) -> Any:
    record = found.runs.record(run)
    assert record is not None, run.label
    return record


def _against(
    found: Found, network: Mapping[str, Any], networks: Mapping[str, Any], references: Mapping[str, str]
) -> dict[str, Any]:
    """Relative change per task and delta_m, in percent: of the means over the seeds, and of each seed's run against
    the references' means."""
    own = [m for m in found.metrics if m.task in network["val"] and m.task in references]
    means = {m.task: statistics.fmean(networks[references[m.task]]["val"][m.task]) for m in own}
    value = {m.task: statistics.fmean(network["val"][m.task]) for m in own}
    complete = 0 < len(own) == len(network["val"])
    per_seed = [{m.task: network["val"][m.task][i] for m in own} for i in range(len(found.comparison.seeds))]
    return {
        "change": {m.task: relative_change(value[m.task], means[m.task], m.higher_is_better) for m in own},
        "delta_m": delta_m(value, means, own) if complete else math.nan,
        "delta_m_of_seeds": [delta_m(values, means, own) for values in per_seed] if complete else [],
    }


def _hold_against_grid(networks: dict[str, dict[str, Any]], described: Sequence[str]) -> None:
    """Add "grid" to each balancer: what may be said of it beside the tuned fixed weights.

    Args:
        described: the points of the grid, those without a delta_m among them.
    """
    grid = {name: networks[name] for name in described if name in networks}
    grid = {name: point for name, point in grid.items() if _defined(point["delta_m_of_seeds"])}
    for network in networks.values():
        if network["is_balancer"] and grid and _defined(network["delta_m_of_seeds"]):
            # A mean over other tasks is another figure.
            alike = {name: point for name, point in grid.items() if {*point["val"]} == {*network["val"]}}
            if not alike:
                continue
            verdict = held_against_grid(
                network["delta_m_of_seeds"],
                {name: point["delta_m_of_seeds"] for name, point in alike.items()},
                network["images"],
                [point["images"] for point in alike.values()],
                missing=[name for name in described if name not in alike],
            )
            network["grid"] = dataclasses.asdict(verdict)


def _defined(values: Sequence[float]) -> bool:
    return bool(values) and all(map(math.isfinite, values))


def _trained(found: Found, name: str, task: str, networks: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a third more steps move the reference, from the means over the seeds that have longer runs."""
    seeds = found.comparison.seeds_of("longer")
    result: dict[str, Any] = {"network": name, "longer": [], "moved_percent": None, "trained": None}
    group = found.group(name, found.longer)
    if len(group) < len(seeds):
        return result
    metric = next(m for m in found.metrics if m.task == task)
    longer = [figure_of(_record(found, run), metric, run.test_sets[0]) for run in group]
    means = statistics.fmean(networks[name]["val"][task][: len(seeds)]), statistics.fmean(longer)
    return {**result, "longer": longer, "moved_percent": moved_percent(*means), "trained": is_trained(*means)}


def _sum(references: Sequence[Mapping[str, Any] | None]) -> dict[str, float]:
    """What the references cost together; {} where one is missing or was not measured.

    Neither memory nor time of training: trained one after the other they need the memory of one, and the seconds of a
    run depend on what ran beside it.
    """
    costs = [reference["cost"] for reference in references if reference and reference["cost"]]
    if not costs or len(costs) < len(references):
        return {}
    return {key: sum(cost[key] for cost in costs) for key in ("parameters", "flops", "milliseconds")}


def _about(found: Found, argv: Sequence[str]) -> dict[str, Any]:
    records = [_record(found, run) for runs in (found.final, found.longer) for run in runs.values()]
    searched = [record for run in found.searched if (record := found.runs.record(run))]
    return {
        "command": portable_command(argv),
        "commits": sorted({short_commit(r.commit, r.dirty) for r in (*records, *searched)}),
        "device": ", ".join(sorted({record.device for record in records})),
        "torch": ", ".join(sorted({record.torch for record in records})),
        "detectron2": ", ".join(sorted({record.detectron2 for record in records})),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
