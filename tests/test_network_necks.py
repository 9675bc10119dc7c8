"""Necks in the joint network and in separate ones: training, partial labels, answers, gradients that are balanced."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2.balancing import FixedBalancer, GramianBalancer
from mtl_d2.engine.gradients import build_gradients
from mtl_d2.engine.precision import Precision
from mtl_d2.engine.trainer import MultiTaskTrainer
from mtl_d2.meta_arch import MultiTaskFPN
from mtl_d2.modeling import NECKS_REGISTRY
from mtl_d2.testing import ALL_TASKS, random_batched_inputs, tiny_cfg

NECKS = sorted(name for name, _ in NECKS_REGISTRY if name != "identity")
TASKS = ("sem_seg", "edge")
EVERY = pytest.mark.parametrize("name", NECKS)


def make_model(name: str, tasks=TASKS, **overrides) -> MultiTaskFPN:
    torch.manual_seed(0)
    return build_model(tiny_cfg(tasks, **{"MODEL.MTL.NECK.NAME": name, **overrides}))


def losses_of(model, inputs):
    torch.manual_seed(3)
    with EventStorage():
        return model(inputs)


def test_the_identity_leaves_state_and_losses_bit_equal():
    model = make_model("identity", ALL_TASKS)
    assert not [key for key in model.state_dict() if key.startswith("neck")]
    inputs = random_batched_inputs(2)
    found = losses_of(model, inputs)
    batch = model.preprocess(inputs)
    features = model.extract_features(batch)
    torch.manual_seed(3)
    expected = {}
    with EventStorage():
        for branch in model.branches.values():  # without any neck
            expected.update(branch.losses(features, batch))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@EVERY
def test_two_steps_of_joint_training_move_the_neck(name):
    model = make_model(name, ALL_TASKS)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inputs = random_batched_inputs(2, sizes=((61, 75), (70, 65)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trainer = MultiTaskTrainer(model, lambda start: iter([inputs] * 2), optimizer, seed=1)
    trainer.train(0, 2)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[0] for key in moved} >= {"backbone", "neck", "roi_heads", "sem_seg_head", "edge_head"}
    answers = model.eval()(random_batched_inputs(1))
    assert {"instances", "sem_seg", "edge"} <= set(answers[0])


@EVERY
def test_a_task_without_a_label_leaves_every_parameter_with_a_gradient_and_the_other_task_as_it_is(name):
    model = make_model(name)
    both = losses_of(model, random_batched_inputs(2, tasks=TASKS))
    losses = losses_of(model, random_batched_inputs(2, tasks=("sem_seg",)))
    assert torch.equal(losses["loss_sem_seg"], both["loss_sem_seg"]) and losses["loss_edge"] == 0
    for found in (both, losses):  # a gate of a level that the task does not read among them
        model.zero_grad()
        sum(found.values()).backward()
        assert [key for key, p in model.named_parameters() if p.grad is None] == []
    own = [key for key, _ in model.neck.named_parameters() if key.startswith("by_task.edge")]
    assert all(not model.neck.get_parameter(key).grad.any() for key in own)


@EVERY
def test_the_loss_of_a_partly_labelled_batch_is_that_of_its_labelled_images(name):
    model = make_model(name)
    inputs = random_batched_inputs(2, sizes=((64, 64),), tasks=[TASKS, ("sem_seg",)])
    found = losses_of(model, inputs)["loss_edge"]
    torch.testing.assert_close(found, losses_of(model, inputs[:1])["loss_edge"], rtol=1e-5, atol=1e-6)


@EVERY
def test_one_task_alone_is_answered_as_among_all(name):
    model = make_model(name).eval()
    inputs = random_batched_inputs(2)
    with torch.no_grad():
        for p in model.neck.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    (together, *_), (alone, *_) = model.inference(inputs), model.inference(inputs, tasks=("edge",))
    assert torch.equal(together["edge"], alone["edge"])


@pytest.mark.parametrize(
    ("name", "cut"), [("hypernetwork", "features"), ("hypernetwork", "parameters"), ("hypercolumn", "features")]
)
def test_under_balanced_gradients_the_neck_keeps_the_plain_sum_and_the_trunk_is_weighed(name, cut):
    """The cut is before the neck: it counts as the tasks' heads."""
    model = make_model(name)
    batch = random_batched_inputs(2, sizes=((64, 64),), tasks=[TASKS, ("edge",)])

    def gradients(balancer) -> dict[str, torch.Tensor]:
        model.balancer = balancer
        model.zero_grad()
        with EventStorage():
            build_gradients(model, Precision(None, "cpu"), 5)(batch, 0)
        return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}

    alone = [gradients(FixedBalancer({task: float(task == one) for task in TASKS})) for one in TASKS]
    weights = torch.tensor([0.5, 3.0], dtype=torch.float64)
    weigh = GramianBalancer(dict.fromkeys(TASKS, 1.0), lambda gramian: weights, gives_mean=False, cut=cut, period=1)
    for key, gradient in gradients(weigh).items():
        factors = weights.tolist() if key.startswith("backbone") else [1.0, 1.0]
        expected = sum(factor * each[key] for factor, each in zip(factors, alone, strict=True))
        assert (gradient - expected).norm() <= 1e-4 * expected.norm() + 1e-7, key


@pytest.mark.parametrize("name", ["hypercolumn", "hyper_features"])
def test_what_is_the_same_for_all_tasks_is_computed_once(name, monkeypatch):
    model, calls = make_model(name), []
    aggregate = model.neck.aggregate
    monkeypatch.setattr(model.neck, "aggregate", lambda features: calls.append(1) or aggregate(features))
    losses_of(model, random_batched_inputs(1))
    model.eval()(random_batched_inputs(1))
    assert len(calls) == 2


def test_separate_networks_have_a_neck_each_and_begin_as_a_single_one():
    separate = make_model("hypernetwork", **{"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"})
    single = make_model("hypernetwork", ("edge",))
    found, expected = separate.network_of("edge").state_dict(), single.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    necks = [separate.network_of(task).neck for task in TASKS]
    assert necks[0] is not necks[1]
    assert [list(neck.by_task) for neck in necks] == [["sem_seg"], ["edge"]]
    sum(losses_of(separate, random_batched_inputs(2)).values()).backward()
    assert all(p.grad is not None for neck in necks for p in neck.parameters())


def test_an_unknown_neck_ends_the_build():
    with pytest.raises(ValueError, match="MODEL.MTL.NECK.NAME is 'bottle'"):
        make_model("bottle")
