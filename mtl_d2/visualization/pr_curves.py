"""Precision-recall curves of boxes, masks and edges, from the files that the evaluators leave."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtl_d2.visualization.charts import COLORS, line_style, style_axes

FILES = ("instance_pr.json", "edge_pr.json")
TITLES = {"bbox": "Boxes", "segm": "Masks", "edge": "Edges"}

Curves = dict[str, Any]


def find_curves(folder: Path) -> dict[str, Curves]:
    """The curves of a run, by dataset.

    Args:
        folder: a run's OUTPUT_DIR, whose curves lie in ``inference/<dataset>/``, or a folder that has them itself.

    Returns:
        ``{dataset: {"recall": ..., "bbox": ..., "segm": ..., "edge": ...}}``, each where there is one; a curve of no
        image is left out.

    Raises:
        ValueError: a file is not what an evaluator writes.
    """
    found: dict[str, Curves] = {}
    for path in sorted(p for name in FILES for p in (*folder.glob(name), *folder.glob(f"inference/*/{name}"))):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            dataset, curves = content.pop("dataset"), _defined(content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: no precision-recall curves in it ({error!r}); evaluate the run again (--eval-only)."
            ) from error
        if curves:
            found.setdefault(dataset, {}).update(curves)
    return found


def _defined(content: Curves) -> Curves:
    if "threshold" in content:
        return {} if content["ODS"] is None else {"edge": content}
    tasks: Curves = {task: content[task] for task in ("bbox", "segm") if task in content}
    tasks = {task: curves for task, curves in tasks.items() if curves["IoU=0.50"]["mean"] is not None}
    return {"recall": content["recall"], **tasks} if tasks else {}


def draw_pr_curves(runs: Mapping[str, Curves], dataset: str) -> Figure:
    """Boxes and masks at an IoU of 0.50 and 0.75, and edges with lines of equal F and the point of the ODS.

    Of a single run a second row shows the classes (those with the lowest AP50, where there are many) and the edges'
    precision, recall and F by threshold.

    Args:
        runs: ``{name: what find_curves returned for the dataset}``; a run without curves is {} and keeps its colour.
        dataset: for the title.
    """
    tasks = [task for task in TITLES if any(task in curves for curves in runs.values())]
    having = [curves for curves in runs.values() if curves]
    rows = 2 if len(having) == 1 else 1
    figure = Figure(figsize=(max(5.4 * len(tasks), 6.5), 5.4 * rows + 0.4), layout="constrained")
    figure.suptitle(f"Precision and recall on {dataset}", fontsize=13, fontweight="bold", x=0.01, ha="left")
    grid = figure.subplots(rows, len(tasks), squeeze=False)
    for axes, task in zip(grid[0], tasks, strict=True):
        _draw_task(axes, task, {name: curves for name, curves in runs.items() if task in curves}, list(runs))
    if rows == 2:
        (curves,) = having
        classes = lowest_classes(curves)
        for axes, task in zip(grid[1], tasks, strict=True):
            if task == "edge":
                _draw_thresholds(axes, curves["edge"])
            else:
                _draw_classes(axes, curves["recall"], curves[task], classes, TITLES[task])
    return figure


def average_precision(precision: list[float]) -> float:
    """In percent, the mean over the 101 recalls: AP50 or AP75."""
    return 100 * float(np.mean(precision))


def lowest_classes(curves: Curves, count: int = len(COLORS)) -> list[str]:
    """Names of the classes with the lowest AP50 (the mean of boxes and masks), lowest first; none without instances."""
    figures: dict[str, list[float]] = {}
    for task in ("bbox", "segm"):
        for name, precision in curves.get(task, {}).get("IoU=0.50", {}).get("classes", {}).items():
            if precision is not None:
                figures.setdefault(name, []).append(average_precision(precision))
    return sorted(figures, key=lambda name: float(np.mean(figures[name])))[:count]


def ods_point(edge: Curves) -> tuple[float, float]:
    """Recall and precision at the threshold of the ODS, which lies between those of the curve."""
    at, thresholds = edge["ODS_threshold"], edge["threshold"]
    return float(np.interp(at, thresholds, edge["recall"])), float(np.interp(at, thresholds, edge["precision"]))


def _frame(axes: Axes, title: str, xlabel: str = "recall", ylabel: str = "precision") -> None:
    style_axes(axes, title, f"{xlabel} (0 to 1)", f"{ylabel} (0 to 1)")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")


def _draw_task(axes: Axes, task: str, runs: Mapping[str, Curves], names: list[str]) -> None:
    _frame(axes, TITLES[task])
    if task == "edge":
        _draw_iso_f(axes)
    for name, curves in runs.items():
        if task == "edge":
            _draw_edge(axes, curves["edge"], name, names.index(name))
        else:
            _draw_detection(axes, curves["recall"], curves[task], name, names.index(name))
    axes.legend(loc="lower left" if task == "edge" else "best", fontsize=9, framealpha=0.85)


def _draw_detection(axes: Axes, recall: list[float], curves: Curves, name: str, index: int) -> None:
    for iou, dashes in (("IoU=0.50", "-"), ("IoU=0.75", "--")):
        precision = curves[iou]["mean"]
        label = f"{name}: AP{iou[-2:]} {average_precision(precision):.1f}"
        axes.plot(recall, precision, linewidth=1.8, **{**line_style(index), "linestyle": dashes}, label=label)


def _draw_classes(axes: Axes, recall: list[float], curves: Curves, names: list[str], title: str) -> None:
    precisions = curves["IoU=0.50"]["classes"]
    defined = sum(precision is not None for precision in precisions.values())
    which = f"{len(names)} of {defined} classes, lowest AP50" if len(names) < defined else "classes, AP50"
    _frame(axes, f"{title} at IoU 0.50: {which}")
    for index, name in enumerate(names):
        if precisions.get(name) is not None:
            label = f"{name}: {average_precision(precisions[name]):.1f}"
            axes.plot(recall, precisions[name], linewidth=1.6, **line_style(index), label=label)
    axes.legend(loc="best", fontsize=9, framealpha=0.85)


def _draw_iso_f(axes: Axes) -> None:
    """Where 2 P R / (P + R) is constant, as edge benchmarks draw it."""
    for f in np.arange(1, 10) / 10:
        recall = np.linspace(f / (2 - f), 1, 200)
        axes.plot(recall, f * recall / (2 * recall - f), color="0.82", linewidth=0.8, zorder=0)
        axes.annotate(
            f"F {f:.1f}",
            (1, f / (2 - f)),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="0.45",
            annotation_clip=False,
        )


def _draw_edge(axes: Axes, edge: Curves, name: str, index: int) -> None:
    reached = _reached(edge)
    precision, recall = np.array(edge["precision"]), np.array(edge["recall"])
    style = line_style(index)
    label = f"{name}: ODS {edge['ODS']:.3f} at {edge['ODS_threshold']:.2f}"
    axes.plot(recall[reached], precision[reached], linewidth=1.8, **style, label=label)
    axes.plot(*ods_point(edge), marker="o", markersize=8, color=style["color"], markeredgecolor="white", zorder=5)


def _draw_thresholds(axes: Axes, edge: Curves) -> None:
    _frame(axes, "Edges by threshold", "threshold of the probability", "score")
    reached = _reached(edge)
    for index, (key, label) in enumerate([("f", "F"), ("precision", "precision"), ("recall", "recall")]):
        values = np.where(reached, edge[key], np.nan)
        axes.plot(edge["threshold"], values, linewidth=1.8, **line_style(index), label=label)
    label = f"ODS {edge['ODS']:.3f} at {edge['ODS_threshold']:.2f}"
    axes.axvline(edge["ODS_threshold"], color="0.4", linestyle=":", linewidth=1.2, label=label)
    axes.legend(loc="lower left", fontsize=9, framealpha=0.85)


def _reached(edge: Curves) -> np.ndarray:
    """A threshold that no pixel passes is no point of the curve: its precision is written as 0."""
    return (np.array(edge["precision"]) > 0) | (np.array(edge["recall"]) > 0)
