"""Branches that read each other's features on two ranks, in parts: the gradients of one process with all parts."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mtl_d2.balancing import GramianBalancer
from mtl_d2.engine.gradients import build_gradients
from mtl_d2.engine.launch import create_ddp, launch
from mtl_d2.engine.precision import Precision
from mtl_d2.testing import random_batched_inputs, tiny_cfg

NETWORKS = {
    "tower": {"MODEL.MTL.EDGE_HEAD.NAME": "TowerEdgeHead"},
    "two_stage": {
        "MODEL.SEM_SEG_HEAD.NAME": "TwoStageSemSegHead",
        "MODEL.MTL.SEM_SEG_HEAD.TWO_STAGE.EDGE_INPUT": True,
        "MODEL.MTL.TASKS": ["edge_coupling", "edge", "sem_seg"],
        "MODEL.MTL.EDGE_COUPLING.CONSISTENCY_WEIGHT": 0.5,
    },
}
PARTS = 2  # of a rank
pytestmark = pytest.mark.slow
# Per part of each rank in turn: a giver without labels, a reader without, neither.
LABELS = [("edge",), ("sem_seg", "edge"), ("sem_seg",), ()]


def make_network(name: str, of_gradients: bool) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(tiny_cfg(("sem_seg", "edge"), **NETWORKS[name]))
    if of_gradients:
        prior = dict.fromkeys(model.branches, 1.0)
        weights = torch.arange(1.0, 1 + len(prior)).double()
        model.balancer = GramianBalancer(prior, lambda gramian: weights, gives_mean=False)
    return model


def shard(rank: int) -> list[dict]:
    return [random_batched_inputs(1, tasks=LABELS[i], seed=i)[0] for i in range(PARTS * rank, PARTS * (rank + 1))]


def gradients(model: nn.Module, batch: list[dict], parts: int) -> dict[str, Tensor]:
    with EventStorage():
        build_gradients(model, Precision(None, "cpu"), 5, parts)(batch, 0)
    found = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
    assert all(gradient is not None for gradient in found.values())
    return found


def _cases() -> list[tuple[str, bool]]:
    return [(name, of_gradients) for name in NETWORKS for of_gradients in (False, True)]


def _two_ranks(path: str) -> None:
    for name, of_gradients in _cases():
        found = gradients(create_ddp(make_network(name, of_gradients)), shard(comm.get_rank()), PARTS)
        if comm.is_main_process():
            torch.save(found, f"{path}/{name}_{of_gradients}.pth")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    launch(_two_ranks, 2, args=(str(path),), device="cpu")
    return path


@pytest.mark.parametrize(("name", "of_gradients"), _cases())
def test_two_ranks_equal_one_process(two_ranks: Path, name: str, of_gradients: bool) -> None:
    found = torch.load(two_ranks / f"{name}_{of_gradients}.pth", weights_only=True)
    expected = gradients(make_network(name, of_gradients), shard(0) + shard(1), 2 * PARTS)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        assert (found[key] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, key
    heads = {key.split(".")[0] for key, gradient in expected.items() if gradient.any()}
    assert heads == {"backbone", "sem_seg_head", "edge_head"}
