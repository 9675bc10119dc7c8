"""The section of RESULTS.md about speed, from the records that ``tools/benchmark.py --json`` writes."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from ..engine.record import short_commit
from .timing import Ratio

_HEAD = """
## Speed

Each is the time of the first over the summed times of the others, medians of interleaved rounds in one process with a
95 % interval; what is compared was equal first. The FLOP floor is the ratio of floating point operations. A goal is met
or missed where the whole interval says so, and open where it holds the goal.

"""


def render_section(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The section as Markdown; empty without records."""
    if not records:
        return ""
    rows = [_row(name, record, each) for name, record in records.items() for each in record["comparisons"]]
    headers = ["record", "", "time of", "ratio [95 %]", "FLOP floor", "goal", "rounds", "device"]
    lines = [_produced_by(name, record) for name, record in records.items()]
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    return f"{_HEAD}{table}\n\nProduced by:\n\n" + "\n".join(lines) + "\n"


def _row(name: str, record: Mapping[str, Any], comparison: Mapping[str, Any]) -> list[str]:
    ratio, floor, goal = Ratio(**comparison["ratio"]), comparison["flop_floor"], comparison["goal"]
    return [
        name,
        comparison["name"],
        f"{comparison['numerator']} / {' + '.join(comparison['denominator'])}",
        str(ratio),
        "" if floor is None else f"{floor:.3f}",
        "" if goal is None else f"{goal:.2f} {ratio.verdict(goal)}",
        str(record["rounds"]),
        record["device"],
    ]


def _produced_by(name: str, record: Mapping[str, Any]) -> str:
    commit = short_commit(record["commit"], record["dirty"])
    versions = f"torch {record['torch']}, detectron2 {record['detectron2']}, {record['finished'][:10]}"
    whole = record.get("setting", {}).get("whole set")
    return f"- {name} (commit {commit}, {versions}): `{record['command']}`" + (f"; {whole}" if whole else "")
