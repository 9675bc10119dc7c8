"""What a benchmark found, as a table for people and as a JSON record."""

import dataclasses
import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import detectron2
import torch
from tabulate import tabulate

from mtl_d2.engine.record import device_name, portable_command, write_json

from .equality import Check
from .timing import Ratio, ratio_of_medians


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The time of one thing over the summed times of others, in the same rounds.

    Attributes:
        name: what was done, such as "training step, 320x480, batch 2".
        numerator, denominator: names of what was run.
        ratio: of the medians.
        flop_floor: the ratio of floating point operations; None where there are none.
        goal: what the ratio should be at most; None for none.
        images: per run.
        seconds: ``{name: [seconds of each round]}``.
        peak_memory_mib: ``{name: weights, optimizer state and the rest at the peak}``; None on a CPU.
    """

    name: str
    numerator: str
    denominator: tuple[str, ...]
    ratio: Ratio
    flop_floor: float | None
    goal: float | None
    images: int
    seconds: dict[str, list[float]]
    peak_memory_mib: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a benchmark returns.

    Attributes:
        device: cpu or cuda.
        rounds: that were counted.
        setting: what was run, in words, ``{name: value}``.
        checks: what had to be equal before anything was timed.
        comparisons: empty where a check failed.
        parameters: ``{network: number of weights}``.
    """

    device: str
    rounds: int
    seed: int
    setting: dict[str, str]
    checks: list[Check]
    comparisons: list[Comparison]
    parameters: dict[str, int] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return all(check.equal for check in self.checks)


def compare(
    name: str,
    seconds: Mapping[str, Sequence[float]],
    *,
    images: int,
    flops: Mapping[str, int] | None = None,
    goal: float | None = None,
    peak_memory_mib: dict[str, float] | None = None,
) -> Comparison:
    """The first of the runs over the sum of the others.

    Args:
        seconds: ``{name: [seconds of each round]}``, of two runs or more.
        images: per run.
        flops: ``{name: floating point operations of a run}``.
    """
    first, *others = seconds
    total = [sum(values) for values in zip(*(seconds[other] for other in others), strict=True)]
    return Comparison(
        name=name,
        numerator=first,
        denominator=tuple(others),
        ratio=ratio_of_medians(seconds[first], total),
        flop_floor=None if flops is None else flops[first] / sum(flops[other] for other in others),
        goal=goal,
        images=images,
        seconds={key: list(values) for key, values in seconds.items()},
        peak_memory_mib=peak_memory_mib,
    )


def render(findings: Findings) -> str:
    """The findings for a terminal."""
    parts = [tabulate(findings.setting.items(), tablefmt="plain"), _render_checks(findings.checks)]
    if findings.parameters:
        rows = [(name, f"{count:,}") for name, count in findings.parameters.items()]
        parts.append(tabulate(rows, headers=["network", "parameters"], colalign=("left", "right")))
    if not findings.equal:
        return "\n\n".join([*parts, "Nothing was timed: what is compared has to be equal first."])
    parts += [_render_times(comparison) for comparison in findings.comparisons]
    return "\n\n".join([*parts, _render_ratios(findings.comparisons)])


def _render_checks(checks: Sequence[Check]) -> str:
    rows = [
        (check.name, f"{check.difference:.1e}", f"{check.tolerance:.0e}", "yes" if check.equal else "NO")
        for check in checks
    ]
    return tabulate(rows, headers=["compared", "relative difference", "allowed", "equal"], disable_numparse=True)


def _render_times(comparison: Comparison) -> str:
    rows = []
    for name, seconds in comparison.seconds.items():
        time = median(seconds)
        memory = None if comparison.peak_memory_mib is None else f"{comparison.peak_memory_mib[name]:.0f}"
        rows.append((name, f"{1000 * time:.1f}", f"{comparison.images / time:.2f}", memory))
    headers = [comparison.name, "ms (median)", "images/s", "peak MiB"]
    columns = 4 if comparison.peak_memory_mib else 3
    return tabulate(
        [row[:columns] for row in rows],
        headers=headers[:columns],
        colalign=("left", *["right"] * (columns - 1)),
        disable_numparse=True,
    )


def _render_ratios(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for c in comparisons:
        floor = "" if c.flop_floor is None else f"{c.flop_floor:.3f}"
        goal = "" if c.goal is None else f"{c.goal:.2f} {c.ratio.verdict(c.goal)}"
        rows.append((c.name, f"{c.numerator} / {' + '.join(c.denominator)}", str(c.ratio), floor, goal))
    headers = ["", "time of", "ratio [95 %]", "FLOP floor", "goal"]
    return tabulate(rows, headers=headers, disable_numparse=True)


def write_findings(
    path: Path, benchmark: str, findings: Findings, argv: Sequence[str], checkout: tuple[str | None, bool]
) -> None:
    """Write the findings as JSON with what they were made by and on; infinite values as null.

    Args:
        benchmark: the subcommand.
        argv: the program and its arguments.
        checkout: commit, and whether there were changes, when the program started.
    """
    commit, dirty = checkout
    is_cpu = torch.device(findings.device).type == "cpu"
    cpu = f"cpu, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    about = {
        "command": portable_command(argv),
        "commit": commit,
        "dirty": dirty,
        "device": cpu if is_cpu else device_name(findings.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "detectron2": detectron2.__version__,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    write_json(path, {"benchmark": benchmark, "equal": findings.equal, **dataclasses.asdict(findings), **about})
