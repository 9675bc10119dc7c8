"""The table of what is done about a rare class, from the records that `tools/imbalance_table.py` makes."""

import re
import statistics
from dataclasses import dataclass

from ..data.shapes_scene import RARE_CLASS
from .record import RunRecord
from .results_figures import Figure, Records, markdown_table

NAME = re.compile(r"imbalance/(?P<dataset>.+)_(?P<variant>[a-z]+)_seed(?P<seed>\d+)")
BASELINE = "none"


@dataclass(frozen=True)
class RestFigure(Figure):
    """The mean over all classes but one; `metric` is what its name has before that of the class, such as "AP-"."""

    without: str = RARE_CLASS

    def value(self, record: RunRecord) -> float | None:
        """None where the record has no such class, or one of them is undefined."""
        values = [
            value
            for name, value in record.results.get(self.group, {}).items()
            if name.startswith(self.metric) and name != f"{self.metric}{self.without}"
        ]
        defined = [value for value in values if value == value]  # noqa: PLR0124
        return statistics.fmean(values) if values and len(defined) == len(values) else None


FIGURES: tuple[Figure, ...] = (
    Figure(f"box AP {RARE_CLASS}", "bbox", f"AP-{RARE_CLASS}"),
    RestFigure("box AP rest", "bbox", "AP-"),
    Figure(f"mask AP {RARE_CLASS}", "segm", f"AP-{RARE_CLASS}"),
    RestFigure("mask AP rest", "segm", "AP-"),
    Figure(f"IoU {RARE_CLASS}", "sem_seg", f"IoU-{RARE_CLASS}"),
    RestFigure("IoU rest", "sem_seg", "IoU-"),
)


def render_imbalance(records: Records) -> str:
    """A table per dataset, a line per variant: each figure of the rare class beside the mean of the others."""
    datasets: dict[str, dict[str, dict[str, RunRecord]]] = {}
    for name, record in records.items():
        if match := NAME.fullmatch(name):
            datasets.setdefault(match["dataset"], {}).setdefault(match["variant"], {})[match["seed"]] = record
    parts = [
        f"## A rare class: {RARE_CLASS} among the things\n",
        "`tools/imbalance_table.py` makes the set and runs these trainings: it says what each variant sets. In the\n"
        'validation images the classes are equally frequent. "rest" is the mean of the other classes.\n',
    ]
    header = ["variant", *(figure.title for figure in FIGURES), "seeds", "steps", "train s"]
    for dataset, variants in sorted(datasets.items()):
        order = sorted(variants, key=lambda variant: (variant != BASELINE, variant))
        rows = [[variant, *_cells(variants[variant])] for variant in order]
        parts.append(f"{dataset}\n\n{markdown_table(header, rows)}")
    return "\n".join(parts)


def _cells(runs: dict[str, RunRecord]) -> list[str]:
    records = list(runs.values())
    steps = ", ".join(str(n) for n in sorted({record.iterations for record in records}))
    seconds = statistics.fmean(record.seconds.get("train", 0) for record in records)
    return [*(figure.text(records) for figure in FIGURES), ", ".join(sorted(runs)), steps, f"{seconds:.0f}"]
