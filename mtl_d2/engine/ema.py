"""Exponential moving average of the weights."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .parts import BALANCER


class ModelEma:
    """Keeps the average of a model's weights and batch norm statistics (Polyak and Juditsky 1992; torch's swa_utils).

    After step n: average = d * average + (1 - d) * model, with d = ``decay``, or min(decay, (1 + n) / (10 + n)) with
    ``warmup``; after step 0 it is the model. What is no average of anything is as in the model: the balancer's
    state, and counters.

    ``average`` is the network to evaluate, and the ``model`` of checkpoints, so that any program that loads one has
    the weights that were scored. ``state_dict`` is that of the model that is trained, ``raw_model`` of checkpoints: a
    resumed run goes on from there.

    Args:
        model: the network that is trained; not wrapped for DDP, with equal weights on all ranks.
        decay: in [0, 1).
        warmup: whether the first steps have less.

    Raises:
        ValueError: ``decay`` is out of its range.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, *, warmup: bool = True) -> None:
        check_decay(decay)
        self.model = model
        self.decay = decay
        self.warmup = warmup
        self._averaged = AveragedModel(model, use_buffers=True)

    @property
    def average(self) -> nn.Module:
        """The network with the averaged weights."""
        return self._averaged.module

    def start(self) -> None:
        """After weights were loaded into ``average``, let the training start from them; not if it was resumed."""
        if self._averaged.n_averaged == 0:
            self.model.load_state_dict(self.average.state_dict())

    def update(self, step: int) -> None:
        """Take the model after ``step`` (from 0) into the average; the same on every rank."""
        self._averaged.multi_avg_fn = get_ema_multi_avg_fn(self.decay_at(step))
        self._averaged.update_parameters(self.model)
        self._copy_what_is_no_average()

    def decay_at(self, step: int) -> float:
        """The decay d after a step, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.model.state_dict()

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        self.model.load_state_dict(state_dict)
        self._averaged.n_averaged.fill_(1)  # the average is the checkpoint's model, and not to be started anew

    @torch.no_grad()
    def _copy_what_is_no_average(self) -> None:
        for average, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            if not buffer.is_floating_point():
                average.copy_(buffer)
        if hasattr(self.model, BALANCER):
            average, model = getattr(self.average, BALANCER), getattr(self.model, BALANCER)
            for of_average, of_model in zip(_tensors(average), _tensors(model), strict=True):
                of_average.copy_(of_model)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def check_decay(decay: float) -> None:
    """Raise ValueError for a decay out of [0, 1)."""
    if not 0 <= decay < 1:
        raise ValueError(f"SOLVER.MTL.EMA.DECAY is {decay}; expected at least 0 and less than 1.")
