"""The table of an ablation as Markdown, from its record."""

import math
from collections.abc import Mapping
from typing import Any

from ..engine.record import RunRecord, short_commit
from ..engine.results_figures import column, figures_of, markdown_table
from .sentences import SEVERAL_COMMITS

Record = Mapping[str, Any]
COSTS = ("parameters", "GFLOPs", "inference ms", "ratio [95 %]")


def render_ablations(records: Mapping[str, Record]) -> str:
    """The sections of RESULTS.md; empty without records."""
    return "".join(f"\n## {record['title']}\n\n{render_ablation(record)}" for record in records.values())


def render_ablation(record: Record) -> str:
    """A row per variant that has a finished run: costs if measured, then the figures, mean ± sd over the seeds."""
    runs = {name: _records(variant) for name, variant in record["variants"].items() if variant["records"]}
    figures = [column(title, names) for title, names in record.get("columns", {}).items()]
    figures = figures or figures_of(run for of in runs.values() for run in of)
    costs = {name: record["variants"][name]["cost"] for name in runs}
    with_costs = any(costs.values())
    rows = [
        [
            name,
            *(_cost(costs[name]) if with_costs else []),
            *(figure.text(of) for figure in figures),
            ", ".join(str(n) for n in sorted({run.iterations for run in of})),
            ", ".join(str(run.seed) for run in of),
        ]
        for name, of in runs.items()
    ]
    header = ["", *(COSTS if with_costs else []), *(figure.title for figure in figures), "steps", "seeds"]
    table = markdown_table(header, rows)
    empty = [figure.title for figure in figures if not any(figure.text(of) for of in runs.values())]
    lacking = f"No run has the figures of: {', '.join(empty)}.\n" if runs and empty else ""
    parts = (_wrapped(record["note"]), table, lacking, _produced_by(record, runs, with_costs))
    return "\n".join(filter(None, parts))


def _wrapped(note: str) -> str:
    return f"{note}\n" if note else ""


def _records(variant: Record) -> list[RunRecord]:
    return [RunRecord(**{**values, "results": _with_nan(values["results"])}) for values in variant["records"].values()]


def _with_nan(results: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    """JSON has no NaN: null stands for what is undefined."""
    return {
        group: {name: math.nan if value is None else value for name, value in figures.items()}
        for group, figures in results.items()
    }


def _cost(cost: Record | None) -> list[str]:
    if cost is None:
        return [""] * len(COSTS)
    ratio = cost["time_ratio"]
    within = f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]" if ratio else "1"
    return [f"{cost['parameters']:,}", f"{cost['flops'] / 1e9:.2f}", f"{cost['milliseconds']:.1f}", within]


def _produced_by(record: Record, runs: Mapping[str, list[RunRecord]], with_costs: bool) -> str:
    commits = sorted({short_commit(run.commit, run.dirty) for of in runs.values() for run in of})
    devices = sorted({r.device for of in runs.values() for r in of})
    configs = sorted({record["variants"][name]["config"] for name in runs})
    failed = record.get("failed", [])
    missing = [name for name in record["variants"] if name not in runs]
    return (
        ("Inference: an image with its postprocessing; the ratio is to the first row. " if with_costs else "")
        + f"Produced by `{record['command']}`: "
        f"configs {', '.join(f'`{config}`' for config in configs)}, commit {', '.join(commits)}, {', '.join(devices)}, "
        f"{record['processes']} x {record['threads']} threads, torch {record['torch']}, detectron2 "
        f"{record['detectron2']}, {record['finished'][:10]}."
        + (f" {SEVERAL_COMMITS}" if len(commits) > 1 else "")
        + (f" Failed: {', '.join(failed)}." if failed else "")
        + (f" Without a finished run: {', '.join(missing)}." if missing else "")
        + "\n"
    )
