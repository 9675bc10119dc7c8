"""Equality before time: how far answers, losses and gradients of two networks are apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that has to be equal.

    Attributes:
        name: what was compared.
        difference: the largest relative difference; infinite where shape or keys differ, or a value is NaN.
        tolerance: the difference that still counts as equal.
    """

    name: str
    difference: float
    tolerance: float

    @property
    def equal(self) -> bool:
        return self.difference <= self.tolerance


def relative_difference(found: Any, expected: Any) -> float:
    """The largest ``max |found - expected| / max |expected|`` of all the tensors and numbers within.

    Args:
        found, expected: tensors, numbers, strings, Boxes, Instances, or mappings and sequences of them. Of integers
            and booleans the divisor is at least 1.

    Returns:
        0 where both are the same; infinity where a shape, a key, a length or a string differs, or a value is NaN.
    """
    leaves, expected_leaves = _flatten(found), _flatten(expected)
    if leaves.keys() != expected_leaves.keys():
        return math.inf
    return max((_difference(leaves[path], leaf) for path, leaf in expected_leaves.items()), default=0.0)


def _flatten(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """``{path: leaf}``."""
    if isinstance(value, Instances):
        value = value.get_fields()
    elif isinstance(value, Boxes):
        value = value.tensor
    elif isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {path: value}
    return {key: leaf for name, item in value.items() for key, leaf in _flatten(item, (*path, name)).items()}


def _difference(found: Any, expected: Any) -> float:
    if found is None or expected is None or isinstance(expected, str):
        return 0.0 if found == expected else math.inf
    a, b = torch.as_tensor(found), torch.as_tensor(expected)
    if a.shape != b.shape:
        return math.inf
    if b.numel() == 0 or torch.equal(a, b):
        return 0.0
    scale = b.double().abs().max()
    if not b.is_floating_point():
        scale = scale.clamp(min=1)
    difference = float((a.double() - b.double()).abs().max() / scale)
    return math.inf if math.isnan(difference) else difference


def gradient_difference(network: nn.Module, references: Sequence[nn.Module]) -> float:
    """The largest relative distance, over parameters, from a gradient to the sum of those of the references.

    Args:
        network: after its backward pass.
        references: after theirs, with the parameters of the network under the same names, each at least once.

    Returns:
        ``max over parameters of |g - sum(g_ref)| / |sum(g_ref)|``, in Euclidean norms.
    """
    grads = [{name: p.grad for name, p in m.named_parameters() if p.grad is not None} for m in references]
    worst = 0.0
    for name, p in network.named_parameters():
        parts = [grad[name] for grad in grads if name in grad]
        if (p.grad is None) != (not parts):
            return math.inf
        if p.grad is not None:
            worst = max(worst, _distance(p.grad, torch.stack(parts).sum(0)))
    return worst


def _distance(found: Tensor, expected: Tensor) -> float:
    distance, norm = (found - expected).norm().item(), expected.norm().item()
    if distance == 0:
        return 0.0
    return distance / norm if norm > 0 and math.isfinite(distance) else math.inf
