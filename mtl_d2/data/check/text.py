"""A report as a person reads it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..faults import Fault
from .statistics import DatasetStatistics


def render_faults(faults: Sequence[Fault], limit: int) -> str:
    """The faults below their files, errors first, then how many there are of each kind.

    Args:
        faults: all.
        limit: so many are listed.
    """
    if not faults:
        return "no fault"
    ordered = sorted(faults, key=lambda fault: fault.is_warning)
    by_file: dict[str, list[Fault]] = {}
    for fault in ordered[:limit]:
        by_file.setdefault(fault.file, []).append(fault)
    lines = []
    for file, group in by_file.items():
        lines.append(file)
        lines += [f"  {'warning: ' if fault.is_warning else ''}{fault.line()}" for fault in group]
    if len(faults) > limit:
        lines.append(f"... and {len(faults) - limit} more; --limit lists more, --json FILE all.")
    errors = Counter(fault.kind for fault in faults if not fault.is_warning)
    warnings = Counter(fault.kind for fault in faults if fault.is_warning)
    lines += [f"{sum(errors.values())} errors{_counts(errors)}, {sum(warnings.values())} warnings{_counts(warnings)}"]
    return "\n".join(lines)


def render_statistics(statistics: DatasetStatistics) -> str:
    """Some lines about a dataset: labels of each task, sizes, classes."""
    labelled = ", ".join(f"{count} {what}" for what, count in statistics.labelled.items())
    lines = [f"labelled: {labelled}"]
    if len(statistics.image_sizes):
        width, height = np.median(statistics.image_sizes, axis=0)
        lines.append(
            f"images: median {width:.0f} x {height:.0f}, {_spread(statistics.image_sizes.max(axis=1))} (longer)"
        )
    if len(statistics.boxes):
        sizes = np.sqrt(statistics.boxes.prod(axis=1))
        counts = statistics.instances_per_image
        lines.append(
            f"objects: {counts.sum()}, {_spread(sizes)} (sqrt of the box's area), aspect {_aspects(statistics)}"
        )
        lines.append(f"objects in an image: {_spread(counts)}; crowds {statistics.crowd_share:.1%} of the annotations")
        lines.append("objects by class: " + _most(statistics.schema.thing_classes, statistics.instances_per_class))
    if statistics.semantic_pixels.any():
        shares = _most(statistics.schema.stuff_classes, statistics.semantic_pixels, share=True)
        lines.append(f"semantic pixels: {shares}; void {statistics.void_share:.1%}")
    if "classification" in statistics.labelled:
        lines.append("images by label: " + _most(statistics.schema.image_label_classes, statistics.image_label_images))
    return "\n".join(f"  {line}" for line in lines)


def _counts(kinds: Counter[str]) -> str:
    return f" ({', '.join(f'{kind} {count}' for kind, count in kinds.most_common())})" if kinds else ""


def _spread(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"5 % {low:.0f}, median {middle:.0f}, 95 % {high:.0f}, largest {values.max():.0f}"


def _aspects(statistics: DatasetStatistics) -> str:
    low, high = np.quantile(statistics.boxes[:, 0] / statistics.boxes[:, 1], [0.05, 0.95])
    return f"{low:.2f} to {high:.2f} (5 % to 95 %)"


def _most(names: Sequence[str], counts: np.ndarray, *, share: bool = False, limit: int = 10) -> str:
    counts = counts[: len(names)]
    order = np.argsort(-counts, kind="stable")[:limit]
    total = max(1, counts.sum())
    parts = [f"{names[i]} {counts[i] / total:.1%}" if share else f"{names[i]} {counts[i]}" for i in order.tolist()]
    rest = len(names) - len(parts)
    return ", ".join(parts) + (f" and {rest} others" if rest else "")
