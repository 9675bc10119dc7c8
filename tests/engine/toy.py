"""A stand-in network with what the engine must respect: random sampling, an idle layer, a balancer."""

from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import nn

from mtl_d2.tasks.base import zero_over


class ToyNetwork(nn.Module):
    """Maps samples to the losses of two tasks; the forward draws numbers, and a NaN at step ``nan_at``."""

    def __init__(self, num_classes: int = 3, nan_at: int = -1) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"bottom_up": nn.Linear(4, 8), "fpn_lateral2": nn.Linear(8, 8)})
        self.sem_seg_head = nn.Linear(8, num_classes)
        self.edge_head = nn.Linear(8, 1)
        self.unused = nn.Linear(2, 2)
        self.balancer = nn.ParameterDict({"log_variance": nn.Parameter(torch.zeros(2))})
        self.branches = {
            "sem_seg": SimpleNamespace(loss_names=("loss_sem_seg",), metric="sem_seg/mIoU", higher_is_better=True),
            "edge": SimpleNamespace(loss_names=("loss_edge",), metric="edge/ODS", higher_is_better=True),
        }
        for task, branch in self.branches.items():
            branch.modules = {f"{task}_head": getattr(self, f"{task}_head")}
        self.active_tasks = None
        self.nan_at = nan_at
        self.steps = 0

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        x = torch.stack([sample["image"] for sample in batch])
        x = self.backbone["fpn_lateral2"](self.backbone["bottom_up"](x).relu())
        keep = (torch.rand(len(batch), 1) < 0.7).to(x.dtype)
        sem_seg = (self.sem_seg_head(x) * keep).square().mean()
        edge = self.edge_head(x).square().mean() * float("nan" if self.steps == self.nan_at else 1)
        self.steps += 1
        s = self.balancer["log_variance"]
        losses = {"sem_seg": sem_seg * torch.exp(-s[0]) + s[0], "edge": edge * torch.exp(-s[1]) + s[1]}
        active = losses if self.active_tasks is None else self.active_tasks
        idle = zero_over(self.parameters())
        return {f"loss_{task}": loss if task in active else idle for task, loss in losses.items()}


def batches(start: int = 0, rank: int = 0, size: int = 2) -> Iterator[list[dict]]:
    """Endless batches; each is a function of its number and the rank."""
    while True:
        generator = torch.Generator().manual_seed(1000 * rank + start)
        yield [{"image": torch.randn(4, generator=generator), "file_name": f"{start}_{i}"} for i in range(size)]
        start += 1


def toy_network() -> ToyNetwork:
    torch.manual_seed(0)
    return ToyNetwork()
