"""A step in which only some tasks are active: their losses, the others' heads, patience, log."""

from unittest import mock

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2.balancing import UncertaintyBalancer
from mtl_d2.testing import random_batched_inputs, tiny_cfg


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_cfg(**{"MODEL.MTL.LABEL_PATIENCE": 3}))


def losses_of(model: torch.nn.Module, inputs: list[dict]) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    with EventStorage():
        return model(inputs)


def test_losses_are_those_of_a_batch_without_the_other_labels_and_no_other_head_runs(
    model: torch.nn.Module,
) -> None:
    expected = losses_of(model, random_batched_inputs(2, tasks=("edge",)))
    model.active_tasks = ("edge",)
    heads = (model.sem_seg_head, model.proposal_generator, model.roi_heads)
    for head in heads:
        head.forward = mock.Mock(side_effect=AssertionError("not active"))
    found = losses_of(model, random_batched_inputs(2))
    assert {name: loss.item() for name, loss in found.items()} == {name: v.item() for name, v in expected.items()}
    assert found["loss_edge"].item() > 0 == found["loss_sem_seg"].item()
    sum(found.values()).backward()
    assert all(p.grad is not None for p in model.parameters())  # what DistributedDataParallel waits for
    assert all(p.grad.abs().max() == 0 for head in heads for p in head.parameters())


def test_the_balancer_and_the_log_know_only_active_tasks(model: torch.nn.Module) -> None:
    model.active_tasks = ("edge", "sem_seg")
    with (
        mock.patch.object(model.balancer, "forward", wraps=model.balancer.forward) as balance,
        EventStorage() as storage,
    ):
        model(random_batched_inputs(2))
    assert balance.call_args.args[1] == ["sem_seg", "edge"]
    assert {name for name in storage.latest() if name.startswith("task/")} == {"task/edge", "task/sem_seg"}


def test_each_task_is_logged_however_its_turns_fall(model: torch.nn.Module) -> None:
    inputs = random_batched_inputs(1)
    with EventStorage() as storage:
        for step in range(22):
            model.active_tasks = ("edge",) if step % 2 else ("sem_seg",)
            if step in {0, 1, 2, 3, 20, 21}:
                storage.iter = step
                model(inputs)
        assert [step for _, step in storage.history("task/edge").values()] == [1, 21]
        assert [step for _, step in storage.history("task/sem_seg").values()] == [0, 20]


def test_what_a_balancer_learns_is_logged_as_seldom_as_the_tasks(model: torch.nn.Module) -> None:
    inputs = random_batched_inputs(1, tasks=("sem_seg",))
    model.active_tasks = ("sem_seg",)
    with mock.patch.object(model, "balancer", UncertaintyBalancer({"sem_seg": 1.0})), EventStorage() as storage:
        for step in (0, 1, 2, 20, 21):
            storage.iter = step
            model(inputs)
        assert [step for _, step in storage.history("balancer/log_variance.sem_seg").values()] == [0, 20]


def test_steps_in_which_a_task_is_not_active_do_not_wear_out_its_patience(model: torch.nn.Module) -> None:
    unlabelled = random_batched_inputs(1, tasks=("sem_seg",))
    model.active_tasks = ("sem_seg",)
    for _ in range(4):
        losses_of(model, unlabelled)
    assert model.patience.steps["edge"] == 0
    model.active_tasks = ("edge", "sem_seg")
    with pytest.raises(RuntimeError, match="task 'edge' has seen no label for 3 batches"):
        for _ in range(3):
            losses_of(model, unlabelled)
