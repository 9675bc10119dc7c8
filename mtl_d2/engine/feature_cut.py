"""The shared features of a part as leaves: where the gradients of the tasks meet."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn


class FeatureCut:
    """The backbone's features, detached, and the gradient that each task gives to them.

    A level that is a max-pool of another one (FPN's p6 of p5) is no leaf: every task pools it anew, so that its
    gradient goes to the level that it comes from, and no two leaves stand for one thing. Integer features (the indices
    of a max pooling) have no gradient: every task gets them as they are.

    Args:
        features: of ``backbone``, ``{name: (N, C, H / stride, W / stride)}``.
        backbone: an FPN, or anything that gives features.

    Attributes:
        leaves: ``{name: the feature, without a graph}``.
        rows: ``{task: {name: gradient}}``; a level that the task does not read is missing.
    """

    def __init__(self, features: Mapping[str, Tensor], backbone: nn.Module) -> None:
        self._names = list(features)
        self._pooled, self._pool = _pooled_level(backbone, self._names)
        self._trunk = {name: feature for name, feature in features.items() if name not in self._pooled}
        self._constant = {name: feature for name, feature in self._trunk.items() if not feature.is_floating_point()}
        self.leaves = {
            name: feature.detach().requires_grad_()
            for name, feature in self._trunk.items()
            if name not in self._constant
        }
        self.rows: dict[str, dict[str, Tensor]] = {}

    def features(self) -> dict[str, Tensor]:
        """The features for the heads of one task."""
        pooled = {name: self._pool(self.leaves[source])[0] for name, source in self._pooled.items()}
        given = self._constant | self.leaves | pooled
        return {name: given[name] for name in self._names}

    def take_row(self, task: str) -> None:
        """What a backward pass has left at the leaves is this task's gradient."""
        self.rows[task] = {name: leaf.grad for name, leaf in self.leaves.items() if leaf.grad is not None}
        for leaf in self.leaves.values():
            leaf.grad = None

    def gramian(self, tasks: Sequence[str]) -> Tensor:
        """(K, K) float32, the inner products of the tasks' gradients."""
        gramian = torch.zeros(len(tasks), len(tasks), device=next(iter(self.leaves.values())).device)
        for name in self.leaves:
            rows = [
                (i, self.rows[task][name].flatten().float()) for i, task in enumerate(tasks) if name in self.rows[task]
            ]
            for i, a in rows:
                for j, b in rows:
                    if j <= i:
                        gramian[i, j] += torch.dot(a, b)
        return gramian + gramian.tril(-1).T

    def trunk_gradients(self, task: str, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
        """The gradients of the trunk's parameters that belong to a task's row; the graph is kept."""
        roots, gradients = self._roots({task: 1.0})
        if not roots:
            return [None] * len(parameters)
        return torch.autograd.grad(roots, parameters, gradients, retain_graph=True, allow_unused=True)

    def backward(self, weights: Mapping[str, float]) -> None:
        """One backward pass of the trunk, with the weighted sum of the rows; nothing where the trunk is frozen."""
        roots, gradients = self._roots(weights)
        if roots:
            torch.autograd.backward(roots, gradients)

    def _roots(self, weights: Mapping[str, float]) -> tuple[list[Tensor], list[Tensor]]:
        roots, gradients = [], []
        for name, feature in self._trunk.items():
            rows = [w * self.rows[task][name] for task, w in weights.items() if name in self.rows[task]]
            if rows and feature.requires_grad:
                roots.append(feature)
                gradients.append(torch.stack(rows).sum(0).to(feature.dtype) if len(rows) > 1 else rows[0])
        return roots, gradients


def _pooled_level(backbone: nn.Module, names: Sequence[str]) -> tuple[dict[str, str], Any]:
    """``{level: the level that it is a max-pool of}``, and what pools."""
    pool = getattr(backbone, "top_block", None)
    if not isinstance(pool, LastLevelMaxPool) or pool.in_feature not in names:
        return {}, None
    return {names[-1]: pool.in_feature}, pool
