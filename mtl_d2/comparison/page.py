"""The table of a comparison as Markdown, from its record."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from ..engine.results_figures import decimals_of
from .sentences import sentences

Record = Mapping[str, Any]


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


def _decimals(metric: Record) -> int:
    return decimals_of(metric["name"].partition("/")[0])


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
            row.append(mean_sd(network["val"].get(task, []), _decimals(metric)))
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
            row += [mean_sd(values, _decimals(metric)) for values in (train, gaps)]
        rows.append(row)
    return _table(rows, headers)


def _costs(record: Record) -> str:
    """Of one image's inference and of a run; the shares of what the references cost together."""
    total = record["sum"]
    rows = [
        [title, *_of_inference(network["cost"] or {}, total), *_of_run(network)] for title, network in _titled(record)
    ]
    rows.append(["sum of the references", *_of_inference(total, {}), "", "", ""])
    headers = ["cost", "parameters", "GFLOPs", "inference ms", "training images", "training MiB", "training s"]
    return _table(rows, headers) + "\n\nIn brackets: of the sum of the references."


def _of_inference(cost: Record, total: Record) -> list[str]:
    """Parameters, GFLOPs and milliseconds, each with its share of the total, the last one's with its interval."""
    formats = {"parameters": "{:,.0f}", "flops": "{:.2f}", "milliseconds": "{:.1f}"}
    cells = []
    for key, text in formats.items():
        shown = text.format(cost[key] / 1e9 if key == "flops" else cost[key]) if key in cost else ""
        ratio = cost.get("time_ratio") if key == "milliseconds" else None
        if ratio:
            shown += f" ({100 * ratio['value']:.0f} % [{100 * ratio['low']:.0f}, {100 * ratio['high']:.0f}])"
        elif shown and total.get(key):
            shown += f" ({100 * cost[key] / total[key]:.0f} %)"
        cells.append(shown)
    return cells


def _of_run(network: Record) -> list[str]:
    peaks = network["peak_memory_mib"]
    memory = "" if None in peaks else f"{statistics.fmean(peaks):.0f}"
    return [f"{network['images']:,}", memory, f"{statistics.fmean(network['train_seconds']):.0f}"]


def _produced_by(record: Record) -> str:
    seeds, commits = ", ".join(map(str, record["seeds"])), ", ".join(record["commits"])
    return (
        f"Produced by `{record['command']}`: config `{record['config']}`, seeds {seeds}, commit {commits}, "
        f"{record['device']}, {record['processes']} x {record['threads']} threads, "
        f"torch {record['torch']}, detectron2 {record['detectron2']}, {record['finished'][:10]}."
    )
