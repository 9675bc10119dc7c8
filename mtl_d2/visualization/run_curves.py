"""Losses, weights, learning rate and scores of runs over their iterations."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtl_d2.visualization.charts import line_style, style_axes
from mtl_d2.visualization.metrics_file import Series

SCORES = ("bbox/AP50", "segm/AP50", "sem_seg/mIoU", "edge/ODS", "panoptic_seg/PQ")
COLUMNS = 4
_PERCENTAGES = ("bbox", "segm", "keypoints", "sem_seg", "panoptic_seg", "classification")
_UNITS = {**dict.fromkeys(_PERCENTAGES, "%"), "edge": "0 to 1"}
_SPANS = {"%": 10.0, "0 to 1": 0.1}  # that an axis shows at least: a tenth of a point is not to look like a leap
_MANY_POINTS = 150  # more of them are drawn faintly, with their running mean on top

Metrics = Mapping[str, Series]


def draw_run_curves(runs: Mapping[str, Metrics], scores: Sequence[str] = SCORES) -> Figure:
    """One chart a scalar, in groups; all runs in each, one colour a run.

    Args:
        runs: ``{name: what read_metrics returned}``; a run without scalars is {} and keeps its colour.
        scores: names of the scalars in the group of scores; with several test sets the name behind the dataset's.

    Raises:
        ValueError: no run has one of the scalars.
    """
    found = {name for metrics in runs.values() for name in metrics}
    groups = {title: names for title, names in chart_groups(found, scores).items() if names}
    if not groups:
        raise ValueError(f"{', '.join(runs)}: found no loss and no score among the scalars {sorted(found)}.")
    end = max(int(iterations[-1]) for metrics in runs.values() for iterations, _ in metrics.values())
    rows = [math.ceil(len(names) / COLUMNS) for names in groups.values()]
    columns = max(1, 160 // (8 + max(map(len, runs))))  # of the legend, which fills a strip of its own
    heights = [0.15 + 0.25 * math.ceil(len(runs) / columns), *(2.6 * count + 0.4 for count in rows)]
    figure = Figure(figsize=(4 * COLUMNS, sum(heights)), layout="constrained")
    strips = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    handles = [Line2D([], [], label=name, linewidth=2, **line_style(i)) for i, name in enumerate(runs)]
    strips[0].legend(handles=handles, loc="center left", ncols=columns, frameon=False, fontsize=11)
    for strip, count, (title, names) in zip(strips[1:], rows, groups.items(), strict=True):
        strip.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        grid = strip.subplots(count, COLUMNS, squeeze=False).flat
        for name, axes in zip(names, grid, strict=False):
            _draw_scalar(axes, name, [metrics.get(name) for metrics in runs.values()], is_score=title == "Scores")
            axes.set_xlim(0, 1.02 * max(end, 1))
        for axes in grid[len(names) :]:
            axes.set_axis_off()
    return figure


def chart_groups(names: set[str], scores: Sequence[str] = SCORES) -> dict[str, list[str]]:
    """The scalars that are drawn, by the title of their group."""
    return {
        "Loss of each task, before balancing": sorted(n for n in names if n.startswith("task/")),
        "Loss terms, as they are minimised": [
            *(["total_loss"] if "total_loss" in names else []),
            *sorted(n for n in names if n.startswith("loss_")),
        ],
        "Weight of each task, and learning rate": [
            *sorted(n for n in names if n.startswith("balance/")),
            *(["lr"] if "lr" in names else []),
            *sorted(n for n in names if n.startswith("lr/")),
        ],
        "Cosine between the gradients of two tasks": sorted(n for n in names if n.startswith("cosine/")),
        "Scores": [n for score in scores for n in sorted(names) if n == score or n.endswith("/" + score)],
    }


def _draw_scalar(axes: Axes, name: str, series: Sequence[Series | None], *, is_score: bool) -> None:
    for index, points in enumerate(series):
        if points is not None:
            marker = "o" if is_score or len(points[0]) == 1 else None
            _draw_line(axes, *points, index, marker=marker, smooth="loss" in name or name.startswith("task/"))
    style_axes(axes, name, "iteration", _y_label(name, is_score))
    values = np.concatenate([points[1][np.isfinite(points[1])] for points in series if points is not None])
    if not len(values):
        axes.text(0.5, 0.5, "not finite (NaN)", transform=axes.transAxes, ha="center", color="0.4")
        axes.set_yticks([])
    elif is_score:
        _widen(axes, _SPANS.get(_unit(name), 0))
        _write_last(axes, series, ".1f" if _unit(name) == "%" else ".3g")
    elif values.min() >= 0 and values.max() > 0:
        axes.set_ylim(bottom=0)


def _draw_line(
    axes: Axes, iterations: np.ndarray, values: np.ndarray, index: int, *, marker: str | None, smooth: bool
) -> None:
    style = line_style(index)
    if smooth and len(values) > _MANY_POINTS:
        axes.plot(iterations, values, alpha=0.15, linewidth=0.8, zorder=1, **style)
        values = running_mean(values, len(values) // 50)
    axes.plot(iterations, values, linewidth=1.6, marker=marker, markersize=4, zorder=2, **style)


def _write_last(axes: Axes, series: Sequence[Series | None], form: str) -> None:
    """Each run's last finite value, in its colour, beside the chart."""
    finite = [(i, points[1][np.isfinite(points[1])]) for i, points in enumerate(series) if points is not None]
    for row, (index, values) in enumerate((i, v) for i, v in finite if len(v)):
        axes.annotate(
            f"{values[-1]:{form}}",
            xy=(1, 1),
            xycoords="axes fraction",
            xytext=(2, -13 * row),
            textcoords="offset points",
            va="top",
            fontsize=10,
            color=line_style(index)["color"],
        )


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of the finite values among ``width`` on each side of every point; NaN where there is none."""
    kernel = np.ones(2 * width + 1)
    finite = np.isfinite(values)
    sums = np.convolve(np.where(finite, values, 0), kernel, mode="same")
    counts = np.convolve(finite.astype(float), kernel, mode="same")
    return np.where(counts > 0.5, sums / np.maximum(counts, 1), np.nan)


def _y_label(name: str, is_score: bool) -> str:
    if is_score:
        return f"{name.rsplit('/', 1)[-1]} ({_unit(name)})" if _unit(name) else name
    return {"lr": "learning rate", "balance": "weight", "cosine": "cosine"}.get(name.split("/", maxsplit=1)[0], "loss")


def _unit(name: str) -> str:
    """Of a score such as "edge/ODS", or "<dataset>/edge/ODS"; "" where it is not known."""
    return _UNITS.get(name.rpartition("/")[0].rpartition("/")[2], "")


def _widen(axes: Axes, span: float) -> None:
    low, high = axes.get_ylim()
    if high - low < span:
        middle = (low + high) / 2
        axes.set_ylim(middle - span / 2, middle + span / 2)
