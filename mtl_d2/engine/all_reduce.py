"""The mean of gradients over the processes of a job; what there is to do in a job of one is nothing."""

from collections.abc import Iterable

import torch
from detectron2.utils import comm
from torch import nn


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over all ranks, in one all-reduce; every rank calls it.

    Args:
        parameters: the same on all ranks. One without a gradient on some ranks counts as zero there; without one on all
            of them it stays without.
    """
    ranks, wanted = comm.get_world_size(), [p for p in parameters if p.requires_grad]
    if ranks == 1 or not wanted:
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]
    exists = torch.tensor([float(p.grad is not None) for p in wanted], device=gradients[0].device)
    flat = torch.cat([*(g.flatten() for g in gradients), exists])
    torch.distributed.all_reduce(flat)
    first = 0
    for p, gradient, count in zip(wanted, gradients, flat[-len(wanted) :].tolist(), strict=True):
        mean = flat[first : first + p.numel()].view_as(p) / ranks
        first += p.numel()
        if count:
            p.grad = gradient.copy_(mean)
