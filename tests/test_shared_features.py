"""Branches that read what others have made, in the network: once a step, right gradients, partial labels, schedules."""

import copy
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mtl_d2.balancing import GramianBalancer
from mtl_d2.engine.gradients import build_gradients
from mtl_d2.engine.precision import Precision
from mtl_d2.engine.task_schedule import TaskSchedule
from mtl_d2.engine.task_schedule_hook import TaskScheduleHook
from mtl_d2.engine.trainer import seed_step
from mtl_d2.testing import random_batched_inputs, tiny_cfg

TASKS = ("sem_seg", "edge")
TOWER = {"MODEL.MTL.EDGE_HEAD.NAME": "TowerEdgeHead"}


def build(tasks=TASKS, **overrides) -> nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_cfg(tasks, **overrides))


def losses_of(model: nn.Module, inputs: list[dict]) -> dict[str, Tensor]:
    seed_step(3, 0, 0)
    with EventStorage():
        return model(inputs)


def gradients_of(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def tower() -> nn.Module:
    return build(**TOWER)


@pytest.fixture
def runs(tower: nn.Module):
    """How often the semantic tower was run."""
    count = []
    handle = tower.sem_seg_head.predictor.register_forward_hook(lambda *args: count.append(1))
    yield count
    handle.remove()


class TestTower:
    def test_it_is_run_once_a_step_and_the_semantic_losses_are_as_without_a_reader(self, tower, runs) -> None:
        inputs = random_batched_inputs(3, sizes=((64, 96),))
        found = losses_of(tower, inputs)
        assert len(runs) == 1 and found["loss_edge"] > 0
        alone = build(("sem_seg",))
        alone.load_state_dict(tower.state_dict(), strict=False)
        torch.testing.assert_close(found["loss_sem_seg"], losses_of(alone, inputs)["loss_sem_seg"])

    def test_the_edge_loss_reaches_the_tower_and_the_backbone(self, tower) -> None:
        gradients = gradients_of(tower, losses_of(tower, random_batched_inputs(2))["loss_edge"])
        assert gradients["sem_seg_head.p2.0.weight"].any() and gradients["backbone.fpn_lateral2.weight"].any()

    def test_without_edge_labels_the_semantic_loss_and_its_gradient_are_equal_to_the_bit(self, tower) -> None:
        full = random_batched_inputs(3, sizes=((64, 96),))
        partial = [dict(x) for x in full]
        del partial[1]["edge"]
        expected, found = losses_of(tower, full), losses_of(tower, partial)
        torch.testing.assert_close(found["loss_edge"], losses_of(tower, [full[0], full[2]])["loss_edge"])
        assert torch.equal(found["loss_sem_seg"], expected["loss_sem_seg"])
        of_full, of_partial = (gradients_of(tower, x["loss_sem_seg"] + 0 * x["loss_edge"]) for x in (expected, found))
        assert [name for name in of_full if not torch.equal(of_full[name], of_partial[name])] == []

    def test_edges_alone_are_trained_through_the_tower_of_an_unlabelled_task(self, tower, runs) -> None:
        losses = losses_of(tower, random_batched_inputs(2, tasks=("edge",)))
        assert len(runs) == 1 and losses["loss_sem_seg"] == 0 < losses["loss_edge"]
        gradients = gradients_of(tower, sum(losses.values()))
        assert all(name in gradients for name, _ in tower.named_parameters())  # what DistributedDataParallel waits for

    def test_nothing_is_run_for_images_without_any_label(self, tower, runs) -> None:
        losses_of(tower, random_batched_inputs(2, tasks=()))
        assert runs == []

    def test_edges_alone_are_answered_without_the_semantic_answer(self, tower, runs) -> None:
        model, inputs = tower.eval(), random_batched_inputs(2)
        try:
            expected = [x["edge"] for x in model(inputs)]
            assert len(runs) == 1
            with mock.patch.object(model.branches["sem_seg"], "inference", side_effect=AssertionError("not asked for")):
                found = model.inference(inputs, tasks=("edge",))
        finally:
            tower.train()
        assert [set(x) for x in found] == [{"edge"}] * 2
        assert all(torch.equal(x["edge"], y) for x, y in zip(found, expected, strict=True))

    def test_the_tower_is_among_what_edges_need(self, tower) -> None:
        assert tower.with_dependencies(("edge",)) == ["sem_seg", "edge"]  # a checkpoint without it is refused

    def test_a_network_without_the_semantic_task_is_refused(self) -> None:
        with pytest.raises(ValueError, match="task 'edge' reads 'sem_seg_tower'.*separate networks give each other"):
            build(("edge",), **TOWER)
        with pytest.raises(ValueError, match="separate networks give each other nothing"):
            build(**TOWER, **{"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"})


@pytest.mark.parametrize("cut", ["features", "parameters"])
def test_a_balancer_of_gradients_with_equal_weights_has_the_gradients_of_the_plain_sum(tower, runs, cut: str) -> None:
    batch = random_batched_inputs(2, tasks=[("sem_seg",), TASKS])
    expected = step_gradients(tower, batch)
    model = copy.deepcopy(tower)
    model.balancer = GramianBalancer(
        dict.fromkeys(TASKS, 1.0), lambda g: torch.ones(2).double(), gives_mean=False, cut=cut
    )
    runs.clear()
    found = step_gradients(model, batch)
    assert len(runs) == 1
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name


def test_the_cosines_of_a_step_take_the_shared_part_into_account(tower) -> None:
    with EventStorage():
        gradients = build_gradients(tower, Precision(None, "cpu"), 5, cosine_period=1)
        found = gradients(random_batched_inputs(1), 0).others["cosine/sem_seg/edge"]
    assert -1 <= float(found) <= 1 and float(found) != 0


def step_gradients(model: nn.Module, batch: list[dict], parts: int = 1) -> dict[str, Tensor]:
    model.zero_grad()
    with EventStorage():
        build_gradients(model, Precision(None, "cpu"), 5, parts)(batch, 0)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class TestSchedule:
    """The giver's modules are its task's part: they stand still while it is not active, or is frozen."""

    def step(self, model: nn.Module, schedule: TaskSchedule) -> dict[str, Tensor]:
        hook = TaskScheduleHook(schedule, model)
        hook.trainer = SimpleNamespace(iter=0)
        try:
            hook.before_step()
            losses = losses_of(model, random_batched_inputs(1))
            model.zero_grad()
            sum(losses.values()).backward()
            hook.after_backward()
        finally:
            hook.after_train()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    @pytest.mark.parametrize(
        "options",
        [
            {"name": "alternating", "pattern": ("edge", "sem_seg")},
            {"freeze": [{"PART": "sem_seg", "FROM": 0, "TO": 1}], "windows": {"sem_seg": (1, 2)}},
        ],
        ids=["inactive", "frozen"],
    )
    def test_the_edge_loss_trains_the_backbone_through_a_tower_that_stands_still(self, tower, options) -> None:
        moved = self.step(tower, TaskSchedule(tasks=TASKS, max_iter=2, **options))
        assert {name.split(".")[0] for name in moved} == {"backbone", "edge_head"}
        assert all(p.requires_grad for p in tower.parameters())
