"""A comparison from its description to what was found: the search, then the networks and the longer references."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from .choose import Choice, choose
from .costs import Cost, measure_costs
from .description import Comparison
from .execute import Runs, estimated_seconds
from .findings import Found
from .networks import check_networks
from .plan import Run, candidate_cfg, final_runs, last_stage, search_runs, trials
from .rules import Metric
from .scores import figures_of
from .yaml_values import check_only


@dataclass
class Campaign:
    """The runs of a comparison, and which of them are wanted.

    only: names of candidates that are trained now; empty for all. What others have left is used.
    """

    comparison: Comparison
    runs: Runs
    only: Collection[str] = ()
    metrics: list[Metric] = field(init=False)

    def __post_init__(self) -> None:
        known = [candidate.name for candidate in self.comparison.candidates]
        check_only(self.only, known, self.comparison.name)
        self.metrics = check_networks(self.comparison)

    def carry_out(self, jobs: int = 1) -> Found:
        """Run all that is wanted and missing, ``jobs`` beside each other."""
        searching = search_runs(self.comparison)
        failed = self.runs.execute(self._wanted(searching), jobs, "search")
        choices = self.choices(searching)
        chosen = {name: choice.values for name, choice in choices.items()}
        final, longer = (final_runs(self.comparison, chosen, phase) for phase in ("final", "longer"))
        failed += self.runs.execute(self._by_seed(final, longer), jobs, "networks")
        done = [{key: run for key, run in runs.items() if self.runs.record(run)} for runs in (final, longer)]
        return Found(
            comparison=self.comparison,
            metrics=self.metrics,
            runs=self.runs,
            final=done[0],
            longer=done[1],
            choices=choices,
            searched=list(searching.values()),
            failed=[run.label for run in failed],
        )

    def choices(self, searching: dict[tuple[str, int, int], Run]) -> dict[str, Choice]:
        """What the finished runs of the search chose."""
        records = {key: self.runs.record(run) for key, run in searching.items()}
        scores = {key: figures_of(record, self.metrics) for key, record in records.items() if record}
        return choose(self.comparison, self.metrics, scores)

    def planned(self) -> list[Run]:
        """All wanted runs; those behind an unfinished search with the first values that it tries."""
        first = {candidate.name: trials(self.comparison, candidate)[0] for candidate in self.comparison.candidates}
        searching = search_runs(self.comparison)
        unfinished = self.runs.missing(searching.values())
        chosen = {} if unfinished else {name: choice.values for name, choice in self.choices(searching).items()}
        final, longer = (final_runs(self.comparison, {**first, **chosen}, phase) for phase in ("final", "longer"))
        return [*self._wanted(searching), *self._by_seed(final, longer)]

    def costs(self, found: Found, rounds: int) -> dict[str, Cost]:
        """Parameters, FLOPs and time of the first seed's networks; {} where a reference is missing."""
        references = [candidate.name for candidate in self.comparison.of_role("reference")]
        complete = [c for c in self.comparison.candidates if found.is_complete(c.name)]
        if rounds == 0 or not {*references} <= {c.name for c in complete}:
            return {}
        networks = {}
        for candidate in complete:
            chosen = found.choices[candidate.name].values
            weights = self.runs.place(found.group(candidate.name)[0]) / "model_final.pth"
            last = last_stage(candidate_cfg(self.comparison, candidate, chosen))
            networks[candidate.name] = candidate_cfg(self.comparison, candidate, {**chosen, **last}), weights
        return measure_costs(networks, references, rounds=rounds)

    def _by_seed(self, *phases: dict[tuple[str, int], Run]) -> list[Run]:
        """One seed after the other, so that a comparison that is interrupted has whole ones."""
        return [
            run
            for wanted in self.comparison.seeds
            for runs in phases
            for run in self._wanted({key: run for key, run in runs.items() if key[1] == wanted})
        ]

    def _wanted(self, runs: dict) -> list[Run]:
        return [run for key, run in runs.items() if not self.only or key[0] in self.only]


def describe_plan(campaign: Campaign, jobs: int) -> str:
    """What would be run, a line each, and for how long."""
    return describe_missing(campaign.runs, campaign.planned(), jobs)


def describe_missing(runs: Runs, planned: Sequence[Run], jobs: int) -> str:
    """What of the planned runs would be run, a line each, and for how long."""
    missing = runs.missing(planned)
    lines = [f"{run.label}: {run.steps} steps on {run.processes} x {run.threads} threads" for run in missing]
    unique = len({run.key for run in planned})
    lines.append(f"{len(missing)} of {unique} runs to do, {unique - len(missing)} done, {jobs} beside each other.")
    lines.append(_time(estimated_seconds(runs, planned, missing), jobs))
    return "\n".join(lines)


def _time(seconds: float | None, jobs: int) -> str:
    if seconds is None:
        return "How long they take is known when the first one is done."
    minutes = math.ceil(seconds / jobs / 60)
    return f"About {minutes // 60} h {minutes % 60} min, at the pace of those that are done."
