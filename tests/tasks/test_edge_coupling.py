"""The coupling of classes and edges: a task with losses and a balance, but without an answer."""

from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mtl_d2 import Predictor
from mtl_d2.data import MultiTaskDatasetMapper
from mtl_d2.engine.evaluation import build_evaluators
from mtl_d2.engine.optimizer import build_optimizer
from mtl_d2.losses import edge_regression_loss
from mtl_d2.modeling.shared_names import EDGE_LOGITS, SEM_SEG_LOGITS
from mtl_d2.structures import downsample_edges
from mtl_d2.tasks import EdgeCouplingBranch
from mtl_d2.testing import random_batched_inputs, tiny_cfg, toy_dataset

TASKS = ("sem_seg", "edge", "edge_coupling")
CONSISTENCY = {"MODEL.MTL.EDGE_COUPLING.CONSISTENCY_WEIGHT": 0.5}


def build(tasks=TASKS, **overrides) -> nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_cfg(tasks, **overrides))


def losses_of(model: nn.Module, inputs: list[dict]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    with EventStorage():
        return model(inputs)


def moved_by(model: nn.Module, loss: Tensor) -> set[str]:
    model.zero_grad()
    loss.backward()
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.fixture(scope="module")
def coupled() -> nn.Module:
    return build(**CONSISTENCY)


def test_term_1_is_edge_regression_on_the_grid_of_the_semantic_logits() -> None:
    model = build(("sem_seg", "edge_coupling"), **{"MODEL.MTL.EDGE_COUPLING.BETA": 1.0})
    inputs = random_batched_inputs(2, sizes=((64, 96),))
    found = losses_of(model, inputs)
    assert set(found) == {"loss_sem_seg", "loss_edge_regression"}  # no edge head
    with torch.no_grad():
        logits = model.sem_seg_head.layers(model.extract_features(model.preprocess(inputs)))
    targets = downsample_edges(torch.stack([x["edge"] for x in inputs]), 4)
    torch.testing.assert_close(found["loss_edge_regression"], edge_regression_loss(logits, targets, beta=1.0))
    assert moved_by(model, found["loss_edge_regression"]) == {"backbone", "sem_seg_head"}


@pytest.mark.parametrize("detach", [True, False])
def test_term_2_moves_the_edge_head_unless_that_is_detached(detach: bool) -> None:
    model = build(**CONSISTENCY, **{"MODEL.MTL.EDGE_COUPLING.DETACH_EDGES": detach})
    losses = losses_of(model, random_batched_inputs(2))
    moved = moved_by(model, losses["loss_edge_consistency"])
    assert moved == {"backbone", "sem_seg_head"} | (set() if detach else {"edge_head"})


@pytest.mark.parametrize("edge_size", [8, 4, 2])
def test_term_2_compares_with_the_likeliest_edge_of_a_cell(edge_size: int) -> None:
    """Classes 0 0 1 1 by column: an edge in the second of four columns of cells."""
    branch = EdgeCouplingBranch(consistency_weight=2.0, edges="total_variation")
    logits = torch.tensor([[[-50.0, -50, 50, 50]] * 4]).unsqueeze(0) * torch.tensor([1.0, -1]).view(1, 2, 1, 1)
    batch = build(("edge",)).preprocess([{"image": torch.zeros(3, 32, 32), "edge": torch.zeros(32, 32).long()}])
    edge_logits = torch.full((1, 1, edge_size, edge_size), -50.0)
    agreeing = edge_logits.clone()
    agreeing[..., edge_size // 4 : max(edge_size // 2, 1)] = 50.0
    for maps, expected in ((edge_logits, 0.5 * 4 / 16 * 2), (agreeing, 0.0 if edge_size > 2 else 0.5 * 4 / 16 * 2)):
        found = branch.losses({SEM_SEG_LOGITS: logits, EDGE_LOGITS: maps}, batch)["loss_edge_consistency"]
        assert found.item() == pytest.approx(expected, abs=1e-6)


def test_unlabelled_images_have_no_part_and_semantic_labels_none_at_all(coupled: nn.Module) -> None:
    full = random_batched_inputs(3, sizes=((64, 96),))
    partial = [dict(x) for x in full]
    del partial[1]["edge"], partial[0]["sem_seg"]
    expected, found = losses_of(coupled, [full[0], full[2]]), losses_of(coupled, partial)
    for name in ("loss_edge_regression", "loss_edge_consistency"):
        torch.testing.assert_close(found[name], expected[name])
    bare = losses_of(coupled, random_batched_inputs(2, tasks=("sem_seg",)))
    assert bare["loss_edge_regression"] == 0 == bare["loss_edge_consistency"]
    assert bare["loss_sem_seg"] > 0


def test_it_takes_no_part_in_other_losses(coupled: nn.Module) -> None:
    inputs = random_batched_inputs(2)
    found = losses_of(coupled, inputs)
    coupled.active_tasks = ("sem_seg", "edge")
    idle = losses_of(coupled, inputs)
    coupled.active_tasks = None
    assert idle["loss_edge_regression"] == 0 < found["loss_edge_regression"]
    assert all(torch.equal(idle[name], found[name]) for name in ("loss_sem_seg", "loss_edge"))


@pytest.mark.parametrize("balancer", ["fixed", "uncertainty", "famo"])
def test_it_has_a_balance_and_log_lines_of_its_own(balancer: str) -> None:
    name = {"MODEL.MTL.BALANCER.NAME": balancer, "MODEL.MTL.BALANCER.WEIGHTS": {"edge_coupling": 0.25}}
    model = build(**{k: v for k, v in name.items() if balancer == "fixed" or k.endswith("NAME")})
    with EventStorage() as storage:
        losses = model(random_batched_inputs(2))
        values = {name: value for name, (value, _) in storage.latest().items()}
    assert values["task/edge_coupling"] > 0 and "balance/edge_coupling" in values
    if balancer == "fixed":
        assert values["balance/edge_coupling"] == 0.25
        assert losses["loss_edge_regression"].item() == pytest.approx(0.25 * values["task/edge_coupling"], rel=1e-5)


def test_it_has_no_answer_and_no_score(coupled: nn.Module, tmp_path: Path) -> None:
    inputs = random_batched_inputs(1)
    with pytest.raises(ValueError, match="'edge_coupling' has no answer"):
        coupled.inference(inputs, tasks=("edge_coupling",))
    coupled.eval()
    assert set(coupled(inputs)[0]) == {"sem_seg", "edge"}
    coupled.train()
    with toy_dataset(1) as name:
        evaluators = build_evaluators(tiny_cfg(TASKS, name, OUTPUT_DIR=str(tmp_path)), coupled, name)
    assert set(evaluators) == {"sem_seg", "edge"}
    torch.save({"model": coupled.state_dict()}, tmp_path / "model.pth")
    assert Predictor(tiny_cfg(TASKS, **CONSISTENCY), tmp_path / "model.pth").tasks == ("sem_seg", "edge")


def test_a_part_without_modules_needs_no_optimizer(coupled: nn.Module) -> None:
    cfg = tiny_cfg(TASKS, **{"SOLVER.MTL.PARTS.edge_coupling.LR_FACTOR": 2.0})
    groups = build_optimizer(cfg, coupled).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(coupled.parameters()))


@pytest.mark.parametrize("tasks", [("edge_coupling",), ("sem_seg", "edge_coupling")])
def test_edge_labels_are_made_for_it_alone(tasks: tuple[str, ...]) -> None:
    with toy_dataset(2) as name:
        sample = MultiTaskDatasetMapper(tiny_cfg(tasks, name), is_train=True)(DatasetCatalog.get(name)[1])
    assert (sample["edge"] == 1).any()
    assert ("sem_seg" in sample) is ("sem_seg" in tasks)


@pytest.mark.parametrize(
    ("tasks", "overrides", "message"),
    [
        (("edge_coupling",), {}, "'edge_coupling' reads 'sem_seg_logits', which none of"),
        (("sem_seg", "edge_coupling"), CONSISTENCY, "reads 'edge_logits', which none of"),
        (TASKS, {"MODEL.MTL.EDGE_COUPLING.EDGES": "canny"}, r"MODEL\.MTL\.EDGE_COUPLING\.EDGES is 'canny', expected"),
        (TASKS, {"MODEL.MTL.EDGE_COUPLING.BETA": -1.0}, r"MODEL\.MTL\.EDGE_COUPLING\.BETA is -1.0, expected"),
        (TASKS, {"MODEL.MTL.EDGE_COUPLING.SMOOTHNESS": -1.0}, r"EDGE_COUPLING\.SMOOTHNESS is -1.0, expected"),
        (TASKS, {"MODEL.MTL.EDGE_COUPLING.CONSISTENCY_WEIGHT": -1.0}, r"CONSISTENCY_WEIGHT is -1.0, expected"),
    ],
)
def test_impossible_configs_name_their_key(tasks: tuple[str, ...], overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(tasks, **overrides)
