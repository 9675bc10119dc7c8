"""By what a task's losses are multiplied, so that they are those of a batch with only the labelled images."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.utils import comm

from .base import TaskBatch, TaskBranch

LabelScales = dict[tuple[str, ...], float]


def label_scales(
    branches: Mapping[str, TaskBranch], parts: Sequence[TaskBatch], device: torch.device | str
) -> LabelScales:
    """Parts / parts with a label, over all ranks, for each (task,) and (task, loss name); 0 where no part has one.

    Gradients are averaged over all parts of all ranks; this makes it the average over those with a label. Every rank
    calls it.

    Args:
        parts: what this rank runs one after another in a step; as many on every rank.
        device: that collectives work on.
    """
    counts: dict[tuple[str, ...], float] = {}
    for part in parts:
        for key, found in _has_label(branches, part).items():
            counts[key] = counts.get(key, 0.0) + found
    ranks = comm.get_world_size()
    if ranks > 1:
        flags = torch.tensor(list(counts.values()), device=device)
        torch.distributed.all_reduce(flags)
        counts = dict(zip(counts, flags.tolist(), strict=True))
    return {key: ranks * len(parts) / n if n else 0.0 for key, n in counts.items()}


def labelled_tasks(scales: LabelScales) -> list[str]:
    """The tasks that have a label in any part of any rank."""
    return [key[0] for key, scale in scales.items() if len(key) == 1 and scale > 0]


def _has_label(branches: Mapping[str, TaskBranch], part: TaskBatch) -> LabelScales:
    flags: LabelScales = {}
    for name, branch in branches.items():
        flags[name,] = float(bool(part.labelled(branch.label_keys)))
    for name, branch in branches.items():
        flags.update(((name, term), float(found)) for term, found in branch.term_labels(part).items())
    return flags
