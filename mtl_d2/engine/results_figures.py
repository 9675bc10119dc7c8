"""The figures of a record that tables print, and how."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .record import RunRecord

Records = dict[str, RunRecord]


@dataclass(frozen=True)
class Figure:
    """A column: where its value lies in a record's results, and with how many decimals it is printed."""

    title: str
    group: str
    metric: str
    decimals: int = 1

    def value(self, record: RunRecord) -> float | None:
        """None where the record lacks the figure, or where it is undefined (NaN)."""
        value = record.results.get(self.group, {}).get(self.metric)
        return None if value is None or value != value else value  # noqa: PLR0124

    def text(self, records: Sequence[RunRecord]) -> str:
        """The value, or mean ± sd over several records; empty where none has the figure.

        Where some lack it, of how many it is.
        """
        values = [value for record in records if (value := self.value(record)) is not None]
        if not values:
            return ""
        mean = f"{statistics.fmean(values):.{self.decimals}f}"
        text = f"{mean} ± {statistics.stdev(values):.{self.decimals}f}" if len(values) > 1 else mean
        return text if len(values) == len(records) else f"{text} ({len(values)} of {len(records)})"


@dataclass(frozen=True)
class MeanFigure(Figure):
    """The mean of the figure and of ``others``, (group, metric) each, such as that of some classes."""

    others: tuple[tuple[str, str], ...] = ()

    def value(self, record: RunRecord) -> float | None:
        """None where one of them is missing or undefined."""
        parts = [(self.group, self.metric), *self.others]
        values = [Figure(self.title, *part).value(record) for part in parts]
        return None if None in values else statistics.fmean(value for value in values if value is not None)


FIGURES = (
    Figure("box AP", "bbox", "AP"),
    Figure("box AP50", "bbox", "AP50"),
    Figure("mask AP", "segm", "AP"),
    Figure("mask AP50", "segm", "AP50"),
    Figure("keypoint AP", "keypoints", "AP"),
    Figure("keypoint AP50", "keypoints", "AP50"),
    Figure("mIoU", "sem_seg", "mIoU"),
    Figure("PQ", "panoptic_seg", "PQ"),
    Figure("edge ODS", "edge", "ODS", 3),
    Figure("edge OIS", "edge", "OIS", 3),
    Figure("edge AP", "edge", "AP", 3),
    Figure("edge R50", "edge", "R50", 3),
    Figure("ODS, half tolerance", "edge", "ODS_half", 3),
    Figure("ODS, crisp", "edge", "ODS_crisp", 3),
    Figure("boundary AP", "segm", "boundary_AP"),
    Figure("boundary IoU", "sem_seg", "boundary_IoU"),
    Figure("image labels mAP", "classification", "mAP"),
)


def decimals_of(group: str) -> int:
    """One for percentages, three for edges and for figures that this package does not know.

    Args:
        group: of a record, such as "segm"; or "<test set>/segm".
    """
    return next((figure.decimals for figure in FIGURES if figure.group == group.rpartition("/")[2]), 3)


def column(title: str, names: Sequence[str]) -> Figure:
    """A column of figures named "group/metric", the mean of them where there are several."""
    (group, metric), *others = [(name.partition("/")[0], name.partition("/")[2]) for name in names]
    return MeanFigure(title, group, metric, decimals_of(group), others=tuple(others))


def figures_of(records: Iterable[RunRecord]) -> list[Figure]:
    """FIGURES that one of the records has, and all figures of tasks that this package does not know."""
    records = list(records)
    known = {figure.group for figure in FIGURES}
    own = {
        (group, metric): Figure(f"{group} {metric}", group, metric, 3)
        for record in records
        for group, metrics in record.results.items()
        for metric in metrics
        if group not in known and "-" not in metric
    }
    return [f for f in (*FIGURES, *own.values()) if any(f.value(record) is not None for record in records)]


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its line of dashes."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
