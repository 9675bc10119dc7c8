"""Stand-in networks with what the engine must respect: random sampling, an idle layer, tasks, a balancer."""

from collections.abc import Collection, Iterator
from types import SimpleNamespace

import torch
from torch import nn

from mtl_d2.meta_arch import MultiTaskFPN
from mtl_d2.modeling import Neck
from mtl_d2.tasks import TaskBatch, TaskBranch
from mtl_d2.tasks.base import Features, zero_over
from mtl_d2.testing import ALL_TASKS


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
            branch.owned_modules = {f"{task}_head": getattr(self, f"{task}_head")}
        self.active_tasks = None
        self.nan_at = nan_at
        self.steps = 0

    def task_of(self, loss_name: str) -> str:
        return loss_name.removeprefix("loss_")

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


class ToyTrunk(nn.Module):
    """Two levels of features of images (3, 8, 8)."""

    size_divisibility = 0

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.level2 = nn.Conv2d(4, 4, 1)
        self.level3 = nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(x).tanh()
        return {"p2": self.level2(x).tanh(), "p3": self.level3(x).tanh()}


class ToyBranch(TaskBranch):
    """A regression from some levels, of random pixels; images whose label is infinite are ignored."""

    metric = "toy/error"

    def __init__(self, name: str, levels: tuple[str, ...], head: nn.Module | None = None) -> None:
        self.name, self.levels = name, levels
        self.label_keys = (f"{name}_label",)
        self.head = head or nn.Conv2d(4, 1, 1)

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {f"{self.name}_head": self.head}

    @property
    def loss_names(self) -> tuple[str, ...]:
        return (f"loss_{self.name}", f"loss_{self.name}_size")

    def losses(self, features: Features, batch: TaskBatch) -> dict[str, torch.Tensor]:
        label = torch.stack([x[self.label_keys[0]] for x in batch.inputs])[:, None, None, None]
        valid = ~label.isinf()
        label = label.masked_fill(~valid, 0)
        found = [self.head(features[level]).float() * valid for level in self.levels]
        keep = [(torch.rand(x.shape) < 0.8).float() for x in found]
        error = sum((k * (x - label)).square().mean() for k, x in zip(keep, found, strict=True))
        return {f"loss_{self.name}": error, f"loss_{self.name}_size": 0.1 * found[0].square().mean()}

    build = inference = postprocess = build_evaluator = None  # only trained


def multitask_network(balancer: nn.Module, trunk: nn.Module | None = None, neck: Neck | None = None) -> MultiTaskFPN:
    """MultiTaskFPN itself, as small as can be: "instance" and "edge" read one level, "sem_seg" both."""
    torch.manual_seed(0)
    return MultiTaskFPN(
        backbone=trunk or ToyTrunk(),
        branches=[ToyBranch("instance", ("p2",)), ToyBranch("sem_seg", ("p2", "p3")), ToyBranch("edge", ("p3",))],
        balancer=balancer,
        neck=neck,
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
    )


def labelled_images(
    step: int, rank: int, labels: Collection[str] = ALL_TASKS, size: int = 2, ignored: Collection[str] = ()
) -> list[dict]:
    """Images that are a function of (step, rank), with labels that the tasks disagree about, or that say nothing."""
    generator = torch.Generator().manual_seed(1000 * rank + step)
    signs = {"instance": 1.0, "sem_seg": -2.0, "edge": 0.5}
    images = []
    for _ in range(size):
        image, number = torch.randn(3, 8, 8, generator=generator), torch.rand((), generator=generator)
        values = {task: torch.tensor(torch.inf) if task in ignored else signs[task] * (1 + number) for task in labels}
        images.append({"image": image, **{f"{task}_label": value for task, value in values.items()}})
    return images
