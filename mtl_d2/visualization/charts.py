"""What the charts of runs share: colours, names and legends. Figures are matplotlib's, without pyplot's state."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is lost on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", ":", "-.")


def line_style(index: int) -> dict[str, Any]:
    """Colour and dashes of the run (or class) ``index``: colours first, dashes where they are used up."""
    return {"color": COLORS[index % len(COLORS)], "linestyle": _LINES[index // len(COLORS) % len(_LINES)]}


def run_names(folders: Sequence[str | os.PathLike]) -> dict[str, Path]:
    """Names by which the folders can be told apart: as few of their last parts as do; a folder given twice is one."""
    paths = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    longest = max(len(path.parts) for path in paths)
    for count in range(1, longest + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, paths, strict=True))


def style_axes(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Title, labels with their units, and a grid that stays in the background."""
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(xlabel, fontsize=10)
    axes.set_ylabel(ylabel, fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a picture of 100 dots per inch; the kind is that of the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
