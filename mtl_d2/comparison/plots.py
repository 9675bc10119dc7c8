"""The plots of a comparison, from its record: one per metric, and delta_m."""

import statistics
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..visualization.charts import COLORS, save, style_axes

Record = Mapping[str, Any]
ROLES = {"reference": COLORS[6], "joint": COLORS[0], "grid": COLORS[2], "balancer": COLORS[1]}


def draw_comparison(record: Record, folder: Path) -> list[Path]:
    """Write ``<task>.png`` for each task and ``delta_m.png``; a task, or all, without a figure has no plot.

    A dot is a seed, the bar their mean; the band is the reference's mean and standard deviation. Of delta_m the line is
    the 95 % interval.
    """
    paths = []
    references = {task: reference["network"] for task, reference in record["references"].items()}
    for metric in record["metrics"]:
        networks = {name: n for name, n in record["networks"].items() if _defined(n["val"].get(metric["task"]))}
        if networks:
            figure, axes = _axes(networks)
            _draw_metric(axes, metric, networks, references.get(metric["task"], ""))
            paths.append(folder / f"{metric['task']}.png")
            save(figure, paths[-1])
    joint = {name: n for name, n in record["networks"].items() if _defined(n.get("delta_m_of_seeds"))}
    if joint:
        figure, axes = _axes(joint)
        _draw_delta_m(axes, joint)
        paths.append(folder / "delta_m.png")
        save(figure, paths[-1])
    return paths


def _defined(values: list[float | None] | None) -> bool:
    return bool(values) and None not in (values or [])


def _axes(networks: Mapping[str, Record]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 1.3 + 0.32 * len(networks)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(networks)), [name.replace("_", " ") for name in networks])
    axes.set_ylim(len(networks) - 0.4, -0.6)  # the first on top
    return figure, axes


def _color(network: Record) -> str:
    return ROLES["balancer" if network["is_balancer"] else network["role"]]


def _draw_seeds(axes: Axes, row: int, values: list[float], color: str) -> None:
    axes.plot(values, [row] * len(values), "o", color=color, alpha=0.55, markersize=6, markeredgewidth=0)
    axes.plot([statistics.fmean(values)], [row], "|", color=color, markersize=16, markeredgewidth=2.5)


def _draw_metric(axes: Axes, metric: Record, networks: Mapping[str, Record], reference: str) -> None:
    """The reference is one network, though that of another task may answer this one too."""
    task = metric["task"]
    for row, network in enumerate(networks.values()):
        _draw_seeds(axes, row, network["val"][task], _color(network))
    if reference in networks:
        values = networks[reference]["val"][task]
        mean, spread = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        axes.axvspan(mean - spread, mean + spread, color="0.85", zorder=0)
        axes.axvline(mean, color="0.5", linewidth=1, zorder=0)
    better = "higher" if metric["higher_is_better"] else "lower"
    style_axes(axes, f"{task}: {metric['name']} on val, {better} is better", _legend(networks), "")


def _draw_delta_m(axes: Axes, networks: Mapping[str, Record]) -> None:
    for row, network in enumerate(networks.values()):
        interval = network["interval"]["delta_m"]
        if interval:
            axes.plot([interval["low"], interval["high"]], [row, row], color=_color(network), linewidth=1.5)
        _draw_seeds(axes, row, network["delta_m_of_seeds"], _color(network))
    axes.axvline(0, color="0.5", linewidth=1, zorder=0)
    style_axes(axes, "delta_m in %, positive is better than alone", _legend(networks), "")


def _legend(networks: Mapping[str, Record]) -> str:
    """What the marks mean, below the axis; colours only where there are several roles."""
    several = max(len(network["val"][task]) for network in networks.values() for task in network["val"]) > 1
    colors = {
        "reference": "black, grey: alone",
        "joint": "blue: joint",
        "balancer": "orange: balancer",
        "grid": "green: fixed weights",
    }
    found = {"balancer" if n["is_balancer"] else n["role"] for n in networks.values()}
    marks = "dot: one seed, bar: mean" if several else "one seed"
    line = "; ".join([marks, *(words for role, words in colors.items() if role in found)])
    return textwrap.fill(line, 80)  # characters, which is the width of the figure
