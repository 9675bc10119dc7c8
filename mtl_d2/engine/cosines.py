"""How far the tasks pull the shared features in different directions."""

from collections.abc import Sequence
from typing import SupportsFloat

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor

from ..balancing import average_over_ranks
from .buffers import kept, running_statistics
from .feature_cut import FeatureCut
from .stopwatch import Stopwatch
from .task_step import TaskStep, total


def feature_cosines(step: TaskStep) -> dict[str, Tensor | SupportsFloat]:
    """``cosine/<a>/<b>`` of the tasks' gradients at the shared features, by a forward and backward pass of their own.

    Nothing that the step computes depends on it: gradients, random state and running statistics stay as they are. Its
    price, ``cosine_seconds``, is a forward pass and the backward passes of the heads.
    """
    tasks, watch = step.labelled, Stopwatch(step.network.device)
    gramian = torch.zeros(len(tasks), len(tasks), device=step.network.device)
    with watch.running(), kept(running_statistics(step.network)), EventStorage():
        for part in range(len(step.parts)):
            gramian += _rows(step, part).gramian(tasks)
    gramian = average_over_ranks(gramian) / comm.get_world_size()
    return {**cosines(gramian, tasks), "cosine_seconds": watch}


def cosines(gramian: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
    """``{cosine/<a>/<b>: scalar in [-1, 1]}`` of each pair of tasks, from inner products (K, K); 0 beside a zero."""
    norms = gramian.diagonal().sqrt()
    cosine = gramian / (norms[:, None] * norms).clamp(min=torch.finfo(gramian.dtype).tiny)
    return {f"cosine/{a}/{b}": cosine[i, j] for i, a in enumerate(tasks) for j, b in enumerate(tasks) if i < j}


def _rows(step: TaskStep, part: int) -> FeatureCut:
    network, precision = step.network, step.gradients.precision
    step.gradients.seed_part(part, step.iteration)
    with precision.autocast(), torch.no_grad():
        features = network.extract_features(step.parts[part])
    cut = FeatureCut(features, network.backbone)
    shared = network.step_features(lambda: network.neck.aggregate(cut.features()), step.parts[part])
    for task in step.labelled:
        with precision.autocast():
            loss = total(network.task_losses(task, shared, step.parts[part], step.scales))
        if loss.requires_grad:
            leaves = list(cut.leaves.values())
            precision.scale(loss).backward(inputs=leaves, retain_graph=shared.is_shared)
        cut.take_row(task)
    return cut
