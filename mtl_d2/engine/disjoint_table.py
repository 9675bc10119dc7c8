"""The table of trainings on disjoint labels, from the records that `tools/disjoint_labels.py` makes."""

import re
import statistics

from .record import RunRecord
from .results_figures import FIGURES, Figure, Records, markdown_table

NAME = re.compile(r"disjoint/(?P<dataset>.+)_(?P<variant>full|disjoint|short)_seed(?P<seed>\d+)")


def render_disjoint(records: Records) -> str:
    """One table per dataset: each figure of the network with disjoint labels beside those with all labels.

    A percentage is the mean over the seeds of the ratio of two runs of one seed.
    """
    runs: dict[str, dict[str, dict[str, RunRecord]]] = {}
    for name, record in records.items():
        if match := NAME.fullmatch(name):
            runs.setdefault(match["dataset"], {}).setdefault(match["variant"], {})[match["seed"]] = record
    parts = ["## Disjoint labels: each third of the images labelled for one task only\n"]
    for dataset, variants in sorted(runs.items()):
        parts.append(f"{dataset}, seeds {', '.join(sorted(variants.get('disjoint', {})))}\n\n{_table(variants)}")
    return "\n".join(parts)


def _table(variants: dict[str, dict[str, RunRecord]]) -> str:
    disjoint = variants.get("disjoint", {})
    full, short = variants.get("full", {}), variants.get("short", {})
    header = [
        "figure",
        f"disjoint{_steps(disjoint)}",
        f"all labels{_steps(full)}",
        "at equal steps",
        f"all labels{_steps(short)}",
        "at equal labelled images",
    ]
    rows = [
        [
            figure.title,
            figure.text(list(disjoint.values())),
            figure.text(list(full.values())),
            _share(figure, disjoint, full),
            figure.text(list(short.values())),
            _share(figure, disjoint, short),
        ]
        for figure in FIGURES
        if any(figure.value(record) is not None for record in disjoint.values())
    ]
    return markdown_table(header, rows)


def _steps(runs: dict[str, RunRecord]) -> str:
    return f", {next(iter(runs.values())).iterations} steps" if runs else ""


def _share(figure: Figure, runs: dict[str, RunRecord], references: dict[str, RunRecord]) -> str:
    pairs = [(figure.value(runs[seed]), figure.value(references[seed])) for seed in runs if seed in references]
    shares = [100 * mine / theirs for mine, theirs in pairs if mine is not None and theirs]
    if not shares:
        return ""
    spread = f" ± {statistics.stdev(shares):.0f}" if len(shares) > 1 else ""
    return f"{statistics.fmean(shares):.0f}{spread} %"
