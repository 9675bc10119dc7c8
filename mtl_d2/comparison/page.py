"""The table of a comparison as Markdown, from its record."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .sentences import sentences

Record = Mapping[str, Any]


def load_comparisons(folder: Path) -> dict[str, dict[str, Any]]:
    """``{name: record}`` of every ``*.json`` in the folder; {} where there is none."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def render_comparisons(records: Mapping[str, Record]) -> str:
    """The section of RESULTS.md; empty without records."""
    if not records:
        return ""
    head = "\n## Does multi-task help?\n\n"
    return head + "\n".join(f"### {name}\n\n{render_comparison(record)}" for name, record in records.items())


def render_comparison(record: Record) -> str:
    """Scores, then training scores, then costs, each network beside the references; what they show, in sentences."""
    parts = [_scores(record), _gaps(record), _costs(record)]
    parts += ["\n".join(f"- {sentence}" for sentence in sentences(record)), _produced_by(record)]
    return "\n\n".join(part for part in parts if part) + "\n"


def mean_sd(values: Sequence[float | None], decimals: int) -> str:
    """Mean ± sample standard deviation; "undefined" where a value is."""
    defined = [value for value in values if value is not None]
    if not values or len(defined) < len(values):
        return "undefined" if values else ""
    mean = f"{statistics.fmean(defined):.{decimals}f}"
    return f"{mean} ± {statistics.stdev(defined):.{decimals}f}" if len(defined) > 1 else mean


def decimals_of(metric: Record) -> int:
    """Edges' figures lie in 0..1, the others that are known in 0..100."""
    percentages = ("bbox", "segm", "keypoints", "sem_seg", "classification")
    return 1 if metric["name"].partition("/")[0] in percentages else 3


def _table(rows: list[list[str]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _titled(record: Record) -> list[tuple[str, Mapping[str, Any]]]:
    roles = {"reference": "alone", "grid": "fixed weights"}
    return [
        (f"{name} ({roles[network['role']]})" if network["role"] in roles else name, network)
        for name, network in record["networks"].items()
    ]


def _scores(record: Record) -> str:
    headers = ["val", *(word for m in record["metrics"] for word in (f"{m['task']} {m['name']}", "change"))]
    rows = []
    for title, network in _titled(record):
        row = [title]
        for metric in record["metrics"]:
            task = metric["task"]
            row.append(mean_sd(network["val"].get(task, []), decimals_of(metric)))
            row.append(_change(network.get("change", {}).get(task), network.get("interval", {}).get(task)))
        joint = network["role"] != "reference"
        rows.append(
            [*row, _change(network["delta_m"], network["interval"]["delta_m"], undefined=True) if joint else ""]
        )
    return _table(rows, [*headers, "delta_m"])


def _change(percent: float | None, interval: Record | None, *, undefined: bool = False) -> str:
    if percent is None:
        return "undefined" if undefined else ""
    within = f" [{interval['low']:+.1f}, {interval['high']:+.1f}]" if interval else ""
    return f"{percent:+.1f} %{within}"


def _gaps(record: Record) -> str:
    headers = ["train", *(word for m in record["metrics"] for word in (f"{m['task']} {m['name']}", "train - val"))]
    rows = []
    for title, network in _titled(record):
        row = [title]
        for metric in record["metrics"]:
            train, val = (network[part].get(metric["task"], []) for part in ("train", "val"))
            gaps = [None if t is None or v is None else t - v for t, v in zip(train, val, strict=True)]
            row += [mean_sd(values, decimals_of(metric)) for values in (train, gaps)]
        rows.append(row)
    return _table(rows, headers)


def _costs(record: Record) -> str:
    rows = []
    for title, network in [*_titled(record), ("sum of the references", None)]:
        costs = _sum_costs(record) if network is None else _network_costs(network)
        rows.append([title, *(_of_sum(costs, record["sum"], key, text) for key, text in _COSTS.items())])
    headers = ["cost", "parameters", "GFLOPs", "inference ms", "training MiB", "training s"]
    return _table(rows, headers) + "\n\nIn brackets: of the sum of the references."


_COSTS = {
    "parameters": "{:,.0f}",
    "flops": "{:.2f}",
    "milliseconds": "{:.1f}",
    "peak_memory_mib": "{:.0f}",
    "train_seconds": "{:.0f}",
}


def _sum_costs(record: Record) -> dict[str, float | None]:
    return {key: record["sum"].get(key) for key in _COSTS}


def _network_costs(network: Record) -> dict[str, float | None]:
    cost = network["cost"] or {}
    peaks = network["peak_memory_mib"]
    return {
        **{key: cost.get(key) for key in ("parameters", "flops", "milliseconds")},
        "peak_memory_mib": None if None in peaks else statistics.fmean(peaks),
        "train_seconds": statistics.fmean(network["train_seconds"]),
    }


def _of_sum(costs: Mapping[str, float | None], total: Record, key: str, text: str) -> str:
    value = costs[key]
    if value is None:
        return ""
    shown = text.format(value / 1e9 if key == "flops" else value)
    return f"{shown} ({100 * value / total[key]:.0f} %)" if total.get(key) and value != total[key] else shown


def _produced_by(record: Record) -> str:
    seeds, commits = ", ".join(map(str, record["seeds"])), ", ".join(record["commits"])
    return (
        f"Produced by `{record['command']}`: config `{record['config']}`, seeds {seeds}, commit {commits}, "
        f"{record['device']}, {record['processes']} x {record['threads']} threads, "
        f"torch {record['torch']}, detectron2 {record['detectron2']}, {record['finished'][:10]}."
    )
