"""A dataset on one page: some images with their labels, and histograms of what it holds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data.catalog import Metadata
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtl_d2.visualization.canvas import drawing_scale
from mtl_d2.visualization.cells import resize_image
from mtl_d2.visualization.charts import COLORS, style_axes
from mtl_d2.visualization.labels import Record, read_labels
from mtl_d2.visualization.panel import draw_overview, draw_row, label_cells, legend_cell

MAX_BARS = 20  # of the classes with most; the rest is one bar
_COLUMNS, _BINS, _WIDTH = 3, 40, 1800


def draw_dataset_overview(
    records: Sequence[Record],
    metadata: Metadata,
    histograms: Mapping[str, np.ndarray | Mapping[str, int]],
    *,
    read_image: Callable[[str, str], np.ndarray],
    read_edges: Callable[[Record, int], np.ndarray] | None = None,
) -> np.ndarray:
    """Histograms, three a row, and below them each image with its labels.

    Args:
        records: dataset dicts of the images to draw, without faults.
        metadata: the dataset's: class names, and colours where it has them.
        histograms: title -> values (N,), or counts by class name.
        read_image: path and "RGB" to (H, W, 3) uint8, such as ``mtl_d2.data.images.read_image``.
        read_edges: see :func:`mtl_d2.visualization.read_labels`.

    Returns:
        (H, W, 3) RGB, uint8.
    """
    parts = [draw_histograms(histograms)] if histograms else []
    if records:
        rows = draw_overview(
            [_draw_record(record, metadata, read_image, read_edges) for record in records], width=_WIDTH
        )
        # The charts are as wide: a narrow page would make the samples small.
        parts.append(np.pad(rows, ((0, 0), (0, max(0, _WIDTH - rows.shape[1])), (0, 0)), constant_values=255))
    return np.concatenate(parts) if parts else np.full((1, _WIDTH, 3), 255, np.uint8)


def _draw_record(
    record: Record,
    metadata: Metadata,
    read_image: Callable[[str, str], np.ndarray],
    read_edges: Callable[[Record, int], np.ndarray] | None,
) -> np.ndarray:
    image = read_image(record["file_name"], "RGB")
    labels = read_labels(record, metadata.get("ignore_label", 255), read_edges=read_edges)
    scale = drawing_scale(*image.shape[:2])
    picture = resize_image(image, scale)
    cells = label_cells(image, scale, labels, metadata)
    row = [(Path(record["file_name"]).name, picture), *cells.values(), legend_cell(image, scale, {}, labels, metadata)]
    return draw_row(row, *picture.shape[:2])


def draw_histograms(histograms: Mapping[str, np.ndarray | Mapping[str, int]]) -> np.ndarray:
    """One chart each, three a row; RGB, uint8.

    Args:
        histograms: title -> values (N,), or counts by class name, of which the MAX_BARS largest are shown.
    """
    rows = -(-len(histograms) // _COLUMNS)
    figure = Figure(figsize=(_WIDTH / 100, 3.6 * rows), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for ax, (title, chart) in zip(axes, histograms.items(), strict=False):
        if isinstance(chart, Mapping):
            _draw_bars(ax, title, chart)
        else:
            _draw_values(ax, title, np.asarray(chart))
    for ax in axes[len(histograms) :]:
        ax.set_visible(False)
    canvas.draw()
    return cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2RGB)


def _draw_values(ax: Axes, title: str, values: np.ndarray) -> None:
    style_axes(ax, f"{title} ({len(values)})", "", "count")
    positive = values[values > 0]
    spread = len(positive) == len(values) and positive.max() > 30 * np.median(positive)
    whole = np.issubdtype(values.dtype, np.integer)
    low, high = float(values.min()), float(values.max())
    if whole and high - low < _BINS:
        edges = np.arange(low - 0.5, high + 1)
    elif spread:
        edges = np.geomspace(low, high, _BINS)
        ax.set_xscale("log")
    else:
        edges = np.histogram_bin_edges(values, _BINS)
    ax.hist(values, bins=edges.tolist(), color=COLORS[0])
    ax.axvline(float(np.median(values)), color=COLORS[1], linewidth=1.5, label=f"median {np.median(values):.4g}")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=9)


def _draw_bars(ax: Axes, title: str, counts: Mapping[str, int]) -> None:
    style_axes(ax, f"{title} ({len(counts)} classes)", "", "count")
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown, rest = ordered[:MAX_BARS], ordered[MAX_BARS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(count for _, count in rest)))
    names = [name[:14] for name, _ in shown]
    ax.bar(range(len(shown)), [count for _, count in shown], color=COLORS[0])
    turned = len(shown) > 6
    ax.set_xticks(range(len(shown)), names, rotation=60 if turned else 0, ha="right" if turned else "center")
    ax.grid(False, axis="x")


def spread(records: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of them, evenly spaced."""
    chosen: list[Any] = [records[i * len(records) // count] for i in range(count)]
    return chosen if len(records) > count else list(records)
