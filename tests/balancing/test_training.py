"""Training with every method: under Detectron2's own trainer, and on two ranks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn

from mtl_d2.balancing import Balancer
from mtl_d2.engine.launch import create_ddp, launch

from .toy import METHODS, TASKS, assert_same_bits, make

STEPS = 5
Batch = tuple[Tensor, tuple[str, ...]]


class Network(nn.Module):
    """Three losses of a shared layer; a task without a label gives a zero over the layer."""

    def __init__(self, balancer: Balancer) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer = nn.Linear(4, 3)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.balancer = balancer

    def losses(self, images: Tensor, labels: tuple[str, ...]) -> dict[str, Tensor]:
        values = self.layer(images).square().mean(dim=0) * torch.tensor([1.0, 4.0, 0.3]) + 0.05
        zero = self.layer.weight.sum() * 0.0
        return {task: value if task in labels else zero for task, value in zip(TASKS, values.unbind(), strict=True)}

    def forward(self, batch: tuple[dict[str, float], Batch]) -> dict[str, Tensor]:
        """``batch``: the scale of each task that is labelled on any rank, and this rank's images."""
        scales, (images, labels) = batch
        losses = {task: {f"loss_{task}": x * scales.get(task, 0.0)} for task, x in self.losses(images, labels).items()}
        return self.balancer(losses, list(scales))[0]


def shard(step: int, rank: int) -> Batch:
    """Rank 1 lacks edges in step 1; in step 2 nobody has them."""
    images = torch.randn(2, 4, generator=torch.Generator().manual_seed(10 * rank + step))
    return images, TASKS[:2] if step == 2 or (step, rank) == (1, 1) else TASKS


def scales(step: int) -> dict[str, float]:
    labels = [shard(step, rank)[1] for rank in (0, 1)]
    counts = {task: sum(task in of_rank for of_rank in labels) for task in TASKS}
    return {task: 2 / count for task, count in counts.items() if count}


def finish(network: Network, optimizer: torch.optim.Optimizer) -> None:
    for parameter in network.balancer.idle_parameters():
        parameter.grad = None
    optimizer.step()


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)


def _train_all(output_dir: str) -> None:
    found = {}
    for name in METHODS:
        network = Network(make(name))
        model, optimizer = create_ddp(network), sgd(network)
        for step in range(STEPS):
            batch = shard(step, comm.get_rank())
            optimizer.zero_grad()
            sum(model((scales(step), batch)).values()).backward()
            before = scaled(network, step, batch)
            finish(network, optimizer)
            if network.balancer.observes_update:
                network.balancer.observe_update(before, scaled(network, step, batch))
        found[name] = network.state_dict()
    torch.save(found, Path(output_dir) / f"{comm.get_rank()}.pth")


@torch.no_grad()
def scaled(network: Network, step: int, batch: Batch) -> dict[str, Tensor]:
    return {task: network.losses(*batch)[task] * scale for task, scale in scales(step).items()}


def train_in_one_process(name: str) -> Network:
    network = Network(make(name))
    optimizer = sgd(network)
    for step in range(STEPS):
        shards = [shard(step, rank) for rank in (0, 1)]
        both = [network.losses(*batch) for batch in shards]
        means = {task: (both[0][task] + both[1][task]) / 2 * scale for task, scale in scales(step).items()}
        zeros = {task: both[0][task] for task in TASKS if task not in means}
        optimizer.zero_grad()
        losses = {task: {f"loss_{task}": x} for task, x in {**means, **zeros}.items()}
        sum(network.balancer(losses, list(means))[0].values()).backward()
        finish(network, optimizer)
        if network.balancer.observes_update:
            before = {task: value.detach() for task, value in means.items()}
            after = [scaled(network, step, batch) for batch in shards]
            network.balancer.observe_update(before, {task: (after[0][task] + after[1][task]) / 2 for task in before})
    return network


@pytest.mark.slow
def test_two_ranks_equal_one_process_under_every_method(tmp_path: Path) -> None:
    launch(_train_all, 2, args=(str(tmp_path),), device="cpu")
    ranks = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1)]
    for name in METHODS:
        assert_same_bits(ranks[0][name], ranks[1][name])
        start, network = Network(make(name)).state_dict(), train_in_one_process(name)
        for key, value in network.state_dict().items():
            torch.testing.assert_close(ranks[0][name][key], value, rtol=1e-6, atol=1e-6, msg=f"{name}: {key}")
        assert any((value - start[key]).abs().max() > 1e-2 for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_detectron2s_trainer_lowers_every_loss(name: str) -> None:
    network = Network(make(name))

    def batches() -> Iterator[tuple[dict[str, float], Batch]]:
        for step in range(30):
            labels = TASKS if step % 4 else TASKS[:2]
            yield dict.fromkeys(labels, 1.0), (shard(0, 0)[0], labels)

    before = network.losses(*shard(0, 0))
    SimpleTrainer(network, batches(), torch.optim.SGD(network.parameters(), lr=0.02)).train(0, 30)
    after = network.losses(*shard(0, 0))
    assert all(after[task] < before[task] for task in TASKS), (before, after)
    assert all(value.isfinite().all() for value in network.state_dict().values())


@pytest.mark.parametrize("name", METHODS)
def test_every_step_has_the_same_losses(name: str) -> None:
    network = Network(make(name))
    found = {
        frozenset(network((dict.fromkeys(labels, 1.0), (shard(0, 0)[0], labels))))
        for labels in (TASKS, TASKS[:2], TASKS[2:], ())
    }
    assert len(found) == 1
