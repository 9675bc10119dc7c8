"""Balancers of every name over three tasks, and losses for them."""

import copy
from collections.abc import Collection, Mapping

import torch
from detectron2.config import CfgNode, get_cfg
from torch import Tensor, nn

from mtl_d2.balancing import Balancer, build_balancer
from mtl_d2.config import add_mtl_config

TASKS = ("instance", "sem_seg", "edge")
METHODS = ("equal", "fixed", "uncertainty", "imtl_l", "dwa", "rlw", "geometric_mean", "stch", "famo")
HAVE = [0, 2]  # rows of the tasks that are labelled where "sem_seg" is not
PRESENT = ("instance", "edge")
PRIORS = {"instance": 1.0, "sem_seg": 2.0, "edge": 0.5}


def config(name: str = "fixed", **options: float) -> CfgNode:
    """Options as ``DWA_PERIOD=3``; short periods by default, so that a few steps pass through all of a method."""
    cfg = get_cfg()
    add_mtl_config(cfg)
    cfg.SEED = 5
    cfg.MODEL.MTL.BALANCER.NAME = name
    for key, value in {"DWA_PERIOD": 2, "STCH_WARMUP": 2, **options}.items():
        node, _, option = key.partition("_")
        cfg.MODEL.MTL.BALANCER[node][option] = value
    return cfg


def make(name: str, weights: Mapping[str, float] = PRIORS, **options: float) -> Balancer:
    cfg = config(name, **options)
    cfg.MODEL.MTL.BALANCER.WEIGHTS.update(weights)
    return build_balancer(cfg, list(weights), TASKS)


def nested(values: Tensor, tasks: Collection[str] = TASKS) -> dict[str, dict[str, Tensor]]:
    """Losses with these sums; the first task has two terms."""
    losses = {task: {f"loss_{task}": value} for task, value in zip(tasks, values.unbind(), strict=True)}
    first = next(iter(tasks))
    losses[first] = {"loss_a": 0.25 * losses[first][f"loss_{first}"], "loss_b": 0.75 * losses[first][f"loss_{first}"]}
    return losses


def without_sem_seg(values: Tensor) -> dict[str, dict[str, Tensor]]:
    losses = nested(values)
    losses["sem_seg"] = {"loss_sem_seg": torch.zeros((), requires_grad=True)}
    return losses


def totals(values: Tensor, tasks: Collection[str] = TASKS) -> dict[str, Tensor]:
    return dict(zip(tasks, values.unbind(), strict=True))


def step_losses(step: int, size: int = len(TASKS)) -> Tensor:
    """Positive losses (size,), of unlike scale."""
    generator = torch.Generator().manual_seed(step)
    return (torch.rand(size, generator=generator) + 0.2) * torch.tensor([1.0, 4.0, 0.3])[:size]


def observe(balancer: Balancer, before: Tensor, tasks: Collection[str] = TASKS) -> None:
    """What a trainer tells a method that learns from a step: here losses fell by 5, 10 and 15 %."""
    if balancer.observes_update:
        after = before.detach() * (1 - 0.05 * torch.arange(1, len(before) + 1))
        balancer.observe_update(totals(before.detach(), tasks), totals(after, tasks))


def warmed(name: str, steps: int = 5, **options: float) -> Balancer:
    """A balancer after some steps with all tasks; what it learns by gradient has moved too."""
    balancer = make(name, **options)
    for step in range(steps):
        balancer(nested(step_losses(step)), TASKS)
        observe(balancer, step_losses(step))
    with torch.no_grad():
        for i, parameter in enumerate(learned(balancer)):
            parameter.add_(0.3 * (i - 1) + 0.1)
    return balancer


def learned(balancer: Balancer) -> list[nn.Parameter]:
    """One parameter for each task, in the order of the tasks (a ParameterDict sorts them), or none."""
    parameters = {name.rpartition(".")[2]: p for name, p in balancer.named_parameters()}
    return [parameters[task] for task in balancer.tasks if parameters]


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def assert_same_bits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
