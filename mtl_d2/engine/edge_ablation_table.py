"""The table of edge heads and edge losses, from the records that `tools/edge_ablation.py` makes."""

import re
import statistics
from collections.abc import Iterable

from .record import RunRecord
from .results_figures import Figure, Records, markdown_table

NAME = re.compile(r"edge_ablation/(?P<variant>(?:head|loss)_[a-z]+)_seed(?P<seed>\d+)")
FIGURES = (
    Figure("ODS", "edge", "ODS", 3),
    Figure("OIS", "edge", "OIS", 3),
    Figure("AP", "edge", "AP", 3),
    Figure("ODS, half tolerance", "edge", "ODS_half", 3),
    Figure("ODS, crisp", "edge", "ODS_crisp", 3),
)
HEADER = ("config", *(figure.title for figure in FIGURES), "head's parameters", "seeds", "steps", "train s")
MISSING = "-"


def render_edge_ablation(records: Records) -> str:
    """The section of the page: what was compared, and the table."""
    return (
        "## Edge heads and edge losses\n\n"
        "`tools/edge_ablation.py` trains the leaves of `configs/edges/`, edges alone on easy scenes: the heads with\n"
        "the default loss, HED's, and the losses with the default head, FPNEdgeHead.\n\n"
        f"{markdown_table(HEADER, ablation_rows(records))}"
    )


def ablation_rows(records: Records) -> list[list[str]]:
    """A line per config, the cells of HEADER; records of another name are left out."""
    variants: dict[str, dict[int, RunRecord]] = {}
    for name, record in sorted(records.items()):
        if match := NAME.fullmatch(name):
            variants.setdefault(match["variant"], {})[int(match["seed"])] = record
    return [[variant, *_cells(runs)] for variant, runs in variants.items()]


def _cells(runs: dict[int, RunRecord]) -> list[str]:
    records = list(runs.values())
    seconds = statistics.fmean(record.seconds.get("train", 0) for record in records)
    return [
        *(figure.text(records) or MISSING for figure in FIGURES),
        _numbers(record.parameters.get("edge") for record in records),
        _numbers(sorted(runs)),
        _numbers(record.iterations for record in records),
        f"{seconds:.0f}",
    ]


def _numbers(values: Iterable[int | None]) -> str:
    """Each once, those that are absent left out."""
    return ", ".join(f"{value:,}" for value in dict.fromkeys(values) if value is not None) or MISSING
