"""The scalars of a run, read from the metrics.json that Detectron2's JSONWriter leaves."""

import json
import logging
import math
import os
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

Series = tuple[np.ndarray, np.ndarray]
Line = tuple[int, dict[str, float]]


def read_metrics(path: str | os.PathLike) -> dict[str, Series]:
    """Read every scalar of a run.

    Where a run was resumed, or started again in the same folder, the file has iterations twice: what the later part
    went through replaces all that the earlier one wrote from there on. A line that is no JSON object, such as the
    last one of a killed run, is left out with a warning.

    Args:
        path: one JSON object a line, each with an "iteration".

    Returns:
        ``{name: (iterations, values)}``: increasing int64, and float64 with NaN where a value is not finite.

    Raises:
        ValueError: there is no such file, or not one line of it can be used.
    """
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such file; a run's OUTPUT_DIR has one after its first iterations.")
    with open(path, encoding="utf-8", errors="replace") as file:
        texts = [line for line in file if line.strip()]
    lines = [line for line in map(_parse, texts) if line is not None]
    if not lines:
        state = f"none of its {len(texts)} lines is a JSON object with an iteration" if texts else "it is empty"
        raise ValueError(f"{path}: {state}, expected the scalars of a run; let the run go on, or name another one.")
    if len(lines) < len(texts):
        logger.warning("%s: left out %d of %d lines, which are no records.", path, len(texts) - len(lines), len(texts))
    values: dict[str, dict[int, float]] = {}
    for iteration, scalars in _without_repeats(lines):
        for name, value in scalars.items():
            values.setdefault(name, {})[iteration] = value
    return {name: _series(points) for name, points in values.items()}


def _parse(text: str) -> Line | None:
    try:
        entry: Any = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(entry, dict) or not _is_number(entry.get("iteration")):
        return None
    scalars = {name: _finite(value) for name, value in entry.items() if value is None or _is_number(value)}
    return int(scalars.pop("iteration")), scalars


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _finite(value: float | None) -> float:
    return math.nan if value is None or not math.isfinite(value) else float(value)


def _without_repeats(lines: list[Line]) -> list[Line]:
    """Leave out of each part of a run what a later part went through again."""
    parts: list[list[Line]] = [[]]
    last: dict[str, int] = {}
    for iteration, scalars in lines:
        # Lines are not sorted, since losses are written at other iterations than task/*; a scalar by itself is.
        if any(last.get(name, -1) >= iteration for name in scalars):
            parts.append([])
            last = {}
        parts[-1].append((iteration, scalars))
        last.update(dict.fromkeys(scalars, iteration))
    kept: list[Line] = []
    limit = math.inf
    for part in reversed(parts):
        kept = [line for line in part if line[0] < limit] + kept
        limit = min(limit, *(iteration for iteration, _ in part))
    return kept


def _series(points: dict[int, float]) -> Series:
    order = sorted(points)
    return np.array(order, dtype=np.int64), np.array([points[i] for i in order], dtype=np.float64)
