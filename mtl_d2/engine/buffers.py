"""Buffers that a forward pass changes, kept where a pass must not leave a trace."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The statistics that norms in training mode gather."""
    norms = (module for module in network.modules() if isinstance(module, _NormBase) and module.training)
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


def changing_buffers(network: nn.Module) -> list[Tensor]:
    """What a training step changes beside the parameters: running statistics, and what a balancer remembers."""
    balancer = getattr(network, "balancer", None)
    return [*running_statistics(network), *(balancer.buffers() if isinstance(balancer, nn.Module) else ())]


class Snapshot:
    """The values of some tensors, to go back to."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.pairs = [(tensor, tensor.clone()) for tensor in tensors]

    def restore(self) -> None:
        with torch.no_grad():
            for tensor, value in self.pairs:
                tensor.copy_(value)


@contextmanager
def kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Give the tensors their values back at the end."""
    snapshot = Snapshot(tensors)
    try:
        yield
    finally:
        snapshot.restore()
