"""The weight of each class in a classification loss, as a head holds it."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

Weights = Sequence[float] | str | None


class ClassWeights(nn.Module):
    """Gives (K,) weights, or None for a loss without.

    They are no part of a checkpoint: a run finds them again in its config and its counts, and a network with them loads
    where one without is expected.

    Args:
        weights: a number for each class, >= 0; None for none. A word stands for weights that are counted from the
            training set; a network that holds one answers, but cannot be trained.
        num_classes: K.
        key: of the config, for errors.
        classes: what K stands for, for errors.

    Raises:
        ValueError: a wrong number of weights; one that is negative, infinite or NaN; all of them 0.
    """

    weights: Tensor | None

    def __init__(self, weights: Weights, num_classes: int, *, key: str, classes: str) -> None:
        super().__init__()
        self.key = key
        self.word = weights if isinstance(weights, str) else None
        if not isinstance(weights, str | list | tuple | None):
            raise ValueError(f"{key} is {weights!r}, expected a list of {num_classes} numbers: one for {classes}")
        values = None if weights is None or isinstance(weights, str) else list(weights)
        if values is not None:
            _check(values, num_classes, key, classes)
        tensor = None if values is None else torch.tensor(values, dtype=torch.float32)
        self.register_buffer("weights", tensor, persistent=False)

    def forward(self) -> Tensor | None:
        """(K,) float32, or None.

        Raises:
            ValueError: the weights are still to be counted.
        """
        if self.word is not None:
            raise ValueError(
                f"{self.key} is {self.word!r}, which is counted from the training set before a network is built: "
                "mtl_d2.engine.train does that, or mtl_d2.engine.with_class_weights(cfg); or give the numbers"
            )
        return self.weights


def _check(values: Sequence[Any], num_classes: int, key: str, classes: str) -> None:
    if len(values) != num_classes:
        raise ValueError(f"{key} has {len(values)} numbers, expected {num_classes}: one for {classes}")
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{key}[{i}] is {value!r}, expected a finite number, 0 or more")
    if not any(values):
        raise ValueError(f"{key} is 0 for every class, expected one above 0; leave it out for no weights")
