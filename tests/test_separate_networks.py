"""Separate networks behind the joint one's interface: each is what it is alone."""

import random
from unittest import mock

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2 import SeparateTaskNetworks
from mtl_d2.engine import load_weights
from mtl_d2.engine.bad_steps import reason_of
from mtl_d2.engine.trainer import MultiTaskTrainer, seed_step
from mtl_d2.tasks import get_task
from mtl_d2.testing import ALL_TASKS, random_batched_inputs, tiny_cfg

SEPARATE = {"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"}


def build(tasks=ALL_TASKS, seed: int = 0, **overrides):
    torch.manual_seed(seed)
    return build_model(tiny_cfg(tasks, **overrides))


def losses_of(model, inputs):
    seed_step(5, 0, 0)
    with EventStorage():
        return model(inputs)


@pytest.fixture(scope="module")
def separate() -> SeparateTaskNetworks:
    return build(**SEPARATE)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_network_has_the_weights_losses_and_gradients_that_it_has_alone(separate, task) -> None:
    alone = build((task,))
    state = separate.state_dict()
    assert all(torch.equal(value, state[f"networks.{task}.{key}"]) for key, value in alone.state_dict().items())

    inputs = random_batched_inputs(2)
    expected, found = losses_of(alone, inputs), losses_of(separate, inputs)
    assert expected.keys() < found.keys()
    assert all(torch.equal(found[name], loss) for name, loss in expected.items())
    sum(expected.values()).backward()
    separate.zero_grad()
    sum(found.values()).backward()
    theirs = dict(separate.network_of(task).named_parameters())
    assert all(torch.equal(p.grad, theirs[name].grad) for name, p in alone.named_parameters())


def test_every_network_draws_the_random_numbers_that_it_draws_alone(separate) -> None:
    drawn = []

    def draw(*args) -> None:
        drawn.append((float(torch.rand(())), float(np.random.rand()), random.random()))  # noqa: NPY002

    handles = [network.backbone.register_forward_hook(draw) for network in separate.networks.values()]
    losses_of(separate, random_batched_inputs(2))
    for handle in handles:
        handle.remove()
    seed_step(5, 0, 0)
    draw()
    assert drawn == [drawn[-1]] * 4


def test_in_the_next_step_other_random_numbers_follow_whatever_trains(separate) -> None:
    drawn: list[float] = []
    network = separate.network_of("edge")
    handle = network.backbone.register_forward_hook(lambda *args: drawn.append(float(torch.rand(()))))
    with EventStorage():
        for _ in range(2):
            separate(random_batched_inputs(2))
            separate.forward_tasks(random_batched_inputs(2))
    handle.remove()
    assert len(set(drawn)) == 4


def test_a_task_without_labels_has_zero_losses_and_the_others_keep_theirs(separate) -> None:
    inputs = random_batched_inputs(2)
    full = losses_of(separate, inputs)
    for image in inputs:
        del image["edge"]
    partial = losses_of(separate, inputs)
    assert partial["loss_edge"] == 0 != full["loss_edge"]
    assert all(torch.equal(partial[name], full[name]) for name in full if name != "loss_edge")
    with EventStorage():
        features, losses, labelled = separate.forward_tasks(inputs)
    assert (features, list(losses), labelled) == ({}, list(ALL_TASKS), ["instance", "sem_seg"])


def test_answers_are_those_of_the_networks_alone_and_only_those_asked_for_are_computed(separate) -> None:
    inputs = random_batched_inputs(2)
    separate.eval()
    with mock.patch.object(separate.network_of("instance"), "inference", side_effect=AssertionError):
        found = separate.inference(inputs, tasks=("edge", "sem_seg"))
    alone = build(("edge",)).eval()(inputs)
    assert [list(answer) for answer in found] == [["edge", "sem_seg"]] * 2
    assert all(torch.equal(answer["edge"], x["edge"]) for answer, x in zip(found, alone, strict=True))
    raw = separate.inference(inputs, tasks=("edge",), do_postprocess=False)
    assert raw["edge"][0].shape[-2:] == raw["edge"][1].shape[-2:] == (96, 96)
    with pytest.raises(ValueError, match="'depth' has no network here"):
        separate.inference(inputs, tasks=("depth",))
    separate.train()


def test_the_panoptic_map_is_made_of_two_networks(separate) -> None:
    inputs = random_batched_inputs(1)
    separate.eval()
    separate.network_of("instance").roi_heads.box_predictor.test_score_thresh = 0.0
    with mock.patch.object(separate, "panoptic", type(separate.panoptic)(score_threshold=0.0)):
        (answer,) = separate(inputs)
        expected = separate.panoptic(answer["instances"], answer["sem_seg"])
    assert list(answer) == ["instances", "sem_seg", "edge", "panoptic_seg"]
    assert torch.equal(answer["panoptic_seg"][0], expected[0])
    separate.train()


def test_a_task_takes_what_it_depends_on_into_its_network() -> None:
    with mock.patch.object(get_task("edge"), "depends_on", ("sem_seg",)):
        model = build(("edge", "sem_seg"), **SEPARATE)
        assert list(model.network_of("edge").branches) == ["sem_seg", "edge"]
        found = losses_of(model, random_batched_inputs(1))
        assert list(found) == ["edge.loss_sem_seg", "loss_edge", "loss_sem_seg"]
        assert list(model.eval().inference(random_batched_inputs(1), tasks=("edge",))[0]) == ["edge"]


def test_what_a_network_depends_on_is_its_own_in_the_log(tmp_path) -> None:
    with mock.patch.object(get_task("edge"), "depends_on", ("sem_seg",)):
        model = build(("edge", "sem_seg"), **SEPARATE)
    names = ["edge.loss_sem_seg", "loss_edge", "loss_sem_seg", "loss_balance"]
    assert [model.task_of(name) for name in names] == ["edge", "edge", "sem_seg", "balance"]
    bad = {"edge.loss_sem_seg": torch.tensor(torch.nan)}
    assert "edge.loss_sem_seg (task 'edge') = nan" in reason_of(model, bad)

    inputs = random_batched_inputs(1)
    with EventStorage() as storage:
        losses = model(inputs)
    for task in ("edge", "sem_seg"):
        assert storage.history(f"task/{task}").values() == [(losses[f"loss_{task}"].item(), 0)]

    model.active_tasks = ("sem_seg",)
    trainer = MultiTaskTrainer(model, lambda start: [inputs], torch.optim.SGD(model.parameters(), lr=0.0), seed=5)
    trainer.train(0, 1)
    assert {name for name in trainer.storage.latest() if "loss_" in name} == {"loss_sem_seg"}


def test_the_weights_of_a_joint_network_are_loaded_into_each_one(tmp_path) -> None:
    joint, separate = build(seed=1), build(**SEPARATE)
    torch.save({"model": joint.state_dict()}, tmp_path / "joint.pth")
    report = load_weights(separate, str(tmp_path / "joint.pth"))
    assert (report.missing, report.unexpected, report.loaded) == ([], [], len(separate.state_dict()))
    for task, network in separate.networks.items():
        assert torch.equal(network.backbone.fpn_lateral2.weight, joint.backbone.fpn_lateral2.weight), task

    torch.save({"model": build(("edge",), seed=2).state_dict()}, tmp_path / "edge.pth")
    report = load_weights(separate, str(tmp_path / "edge.pth"))
    assert all(key.startswith(("networks.instance.", "networks.sem_seg.")) for key in report.missing)
    assert report.missing


def test_the_networks_of_a_checkpoint_are_loaded_by_name(tmp_path) -> None:
    first, second = build(seed=1, **SEPARATE), build(seed=2, **SEPARATE)
    torch.save({"model": first.state_dict()}, tmp_path / "separate.pth")
    assert load_weights(second, str(tmp_path / "separate.pth")).loaded == len(second.state_dict())
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("tasks", [[], ["edge", "edge"]])
def test_tasks_are_named_once(tasks) -> None:
    with pytest.raises(ValueError, match="MODEL.MTL.TASKS"):
        build(tasks, **SEPARATE)
