"""The table of trainings on disjoint labels, from the records that `tools/disjoint_labels.py` makes."""

import re
import statistics

from .record import RunRecord
from .results_figures import Figure, Records, figures_of, markdown_table

Runs = dict[str, RunRecord]  # by seed

NAME = re.compile(r"disjoint/(?P<dataset>.+)_(?P<variant>full|disjoint|short|long)_seed(?P<seed>\d+)")


def render_disjoint(records: Records) -> str:
    """One table per dataset: each figure of the network with disjoint labels beside those with all labels.

    A percentage is the mean over the seeds of the ratio of two runs of one seed.
    """
    runs: dict[str, dict[str, Runs]] = {}
    for name, record in records.items():
        if match := NAME.fullmatch(name):
            runs.setdefault(match["dataset"], {}).setdefault(match["variant"], {})[match["seed"]] = record
    parts = [
        "## Disjoint labels: each third of the images labelled for one task only\n",
        "`tools/disjoint_labels.py` makes the thirds and runs these trainings. A labelled image counts each time that\n"
        "a task sees it. The edges of the thirds are files, thinned to one pixel; those of all labels together are\n"
        "derived after augmentation. A part of the difference in edges may be that.\n",
    ]
    for dataset, variants in sorted(runs.items()):
        seeds = ", ".join(sorted({seed for members in variants.values() for seed in members}))
        parts.append(f"{dataset}, seeds {seeds}\n\n{_table(variants)}")
    return "\n".join(parts)


def _table(variants: dict[str, Runs]) -> str:
    full, disjoint = variants.get("full", {}), variants.get("disjoint", {})
    comparisons = [
        ("at equal steps", disjoint, full),
        ("at equal labelled images", disjoint, variants.get("short", {})),
        ("at equal labelled images", variants.get("long", {}), full),
    ]
    comparisons = [comparison for comparison in comparisons if comparison[1] and comparison[2]]
    figures = figures_of(record for runs in variants.values() for record in runs.values())
    header = ["figure"]
    for what, runs, references in comparisons:
        header += [f"thirds{_steps(runs)}", f"all labels{_steps(references)}", what]
    rows = [
        [figure.title, *(cell for _, runs, references in comparisons for cell in _cells(figure, runs, references))]
        for figure in figures
    ]
    return markdown_table(header, rows)


def _cells(figure: Figure, runs: Runs, references: Runs) -> list[str]:
    return [
        figure.text(list(runs.values())),
        figure.text(list(references.values())),
        _share(figure, runs, references),
    ]


def _steps(runs: Runs) -> str:
    return f", {next(iter(runs.values())).iterations} steps" if runs else ""


def _share(figure: Figure, runs: Runs, references: Runs) -> str:
    pairs = [(figure.value(runs[seed]), figure.value(references[seed])) for seed in runs if seed in references]
    shares = [100 * mine / theirs for mine, theirs in pairs if mine is not None and theirs]
    if not shares:
        return ""
    spread = f" ± {statistics.stdev(shares):.0f}" if len(shares) > 1 else ""
    return f"{statistics.fmean(shares):.0f}{spread} %"
