"""Cells of a panel for answers that the package does not know."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Record = dict[str, Any]


@dataclass(frozen=True)
class OwnCell:
    """How an answer of a task from outside the package is drawn.

    Attributes:
        title: of the cell; the label's gets "Labelled " before it.
        draw: the answer, or the label, as an (H, W, 3) uint8 RGB picture.
        read_label: a dataset's record to its label, in the answer's form; None where it has none.
    """

    title: str
    draw: Callable[[Any], np.ndarray]
    read_label: Callable[[Record], Any] | None = None


OWN_CELLS: dict[str, OwnCell] = {}


def register_cell(
    output_key: str,
    title: str,
    draw: Callable[[Any], np.ndarray],
    read_label: Callable[[Record], Any] | None = None,
) -> None:
    """Have panels show the answer ``output_key`` of the model, in a column of its own; see :class:`OwnCell`."""
    OWN_CELLS[output_key] = OwnCell(title, draw, read_label)
