"""The hypernetwork: what it makes depends on task and image, reaches the embedding, and is what its form says."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch.nn import functional as F

from mtl_d2.modeling.necks import HypernetworkNeck
from mtl_d2.modeling.necks.generated import FORMS

SIZES = [(96, 96), (40, 50)]
BOTH = pytest.mark.parametrize("form", sorted(FORMS))


@BOTH
def test_weights_differ_between_tasks_and_between_images(make_neck, make_features, form):
    neck = make_neck("hypernetwork", HYPERNETWORK__FORM=form)
    descriptor = neck.describe(make_features(), SIZES)
    instance, edge = (torch.stack(list(neck.generate(task, descriptor))) for task in ("instance", "edge"))
    assert instance.shape == (2, 2, neck.form.size)
    assert ((instance - edge).abs().amax(dim=2) > 1e-3).all()
    assert ((instance[:, 0] - instance[:, 1]).abs().amax(dim=1) > 1e-4).all()


@BOTH
def test_the_gradient_reaches_the_embedding_of_the_task_alone(make_neck, make_features, form):
    neck = make_neck("hypernetwork", HYPERNETWORK__FORM=form)
    found = neck(make_features(), "edge", SIZES)
    sum(x.square().sum() for x in found.values()).backward()
    assert neck.by_task["edge"].weight.grad.abs().max() > 1e-6
    assert neck.by_task["instance"].weight.grad is None
    assert all(p.grad.abs().max() > 0 for p in (*neck.generator.parameters(), *neck.convs.parameters()))


def test_padding_is_not_described(make_neck, make_features):
    neck, features = make_neck("hypernetwork"), make_features()
    expected = neck.describe(features, SIZES)
    for name, x in features.items():
        stride = neck.input_shape[name].stride
        x[1, :, -(-40 // stride) :] = 1e3
        x[1, :, :, -(-50 // stride) :] = 1e3
    assert torch.equal(neck.describe(features, SIZES), expected)


def test_channel_wise_weights_are_scaled_rows():
    torch.manual_seed(0)
    conv, x, form = torch.nn.Conv2d(6, 6, 3, padding=1), torch.randn(2, 6, 5, 7), FORMS["channel"](6, 1)
    values = torch.randn(2, form.size)
    for i in range(2):
        scale, shift = 1 + values[i, :6], values[i, 6:]
        weight, bias = conv.weight * scale[:, None, None, None], conv.bias * scale + shift
        expected = F.conv2d(x[i : i + 1], weight, bias, padding=1)
        torch.testing.assert_close(form.convolve(x, conv, values)[i : i + 1], expected, rtol=1e-5, atol=1e-5)


def test_a_low_rank_update_is_of_the_middle_tap():
    torch.manual_seed(0)
    conv, x, form = torch.nn.Conv2d(6, 6, 3, padding=1), torch.randn(2, 6, 5, 7), FORMS["low_rank"](6, 2)
    values = torch.randn(2, form.size)
    for i in range(2):
        v, u = values[i].view(2, 6, 2)
        weight = conv.weight.detach().clone()
        weight[:, :, 1, 1] += u @ v.T
        assert torch.linalg.matrix_rank(u @ v.T) == 2
        expected = F.conv2d(x[i : i + 1], weight, conv.bias, padding=1)
        torch.testing.assert_close(form.convolve(x, conv, values)[i : i + 1], expected, rtol=1e-5, atol=1e-5)


@BOTH
@pytest.mark.parametrize("depth", [1, 3])
def test_its_parameters_are_those_of_the_formula(make_neck, form, depth):
    neck = make_neck("hypernetwork", HYPERNETWORK__FORM=form, HYPERNETWORK__DEPTH=depth, HYPERNETWORK__RANK=3)
    c, e, h, r = 32, 32, 64, 3
    made = depth * (2 * c if form == "channel" else 2 * c * r)
    expected = depth * (9 * c * c + c) + (e + c + 1) * h + (h + 1) * made + 2 * e
    assert sum(p.numel() for p in neck.parameters()) == expected


@BOTH
def test_it_begins_near_the_features(make_neck, make_features, form):
    neck, features = make_neck("hypernetwork", HYPERNETWORK__FORM=form), make_features()
    found = neck(features, "edge", SIZES)
    assert all((found[name] - x).norm() < 0.4 * x.norm() for name, x in features.items())


def test_frozen_only_the_embeddings_learn(make_neck):
    neck = make_neck("hypernetwork", HYPERNETWORK__FREEZE=True)
    trained = {name for name, p in neck.named_parameters() if p.requires_grad}
    assert trained == {"by_task.instance.weight", "by_task.edge.weight"}


def test_levels_of_unequal_channels_are_refused():
    shapes = {"p2": ShapeSpec(channels=8, stride=4), "p3": ShapeSpec(channels=16, stride=8)}
    with pytest.raises(ValueError, match=r"gives \{'p2': 8, 'p3': 16\} channels: expected equal ones"):
        HypernetworkNeck(shapes, tasks=["edge"])


def test_it_serves_labels_boxes_masks_and_poses_at_once(make_features):
    tasks = ("classification", "instance", "sem_seg", "keypoint")
    features = make_features()
    shapes = {name: ShapeSpec(channels=32, stride=96 // x.shape[-1]) for name, x in features.items()}
    neck = HypernetworkNeck(shapes, tasks=tasks)
    found = [neck(features, task, SIZES)["p2"] for task in tasks]
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
