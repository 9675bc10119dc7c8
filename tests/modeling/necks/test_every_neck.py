"""What holds for every neck: shapes, odd sizes, memory formats, precision, padding, tasks."""

import pytest
import torch

from mtl_d2.modeling import NECKS_REGISTRY

from .conftest import SIZES

NAMES = sorted(name for name, _ in NECKS_REGISTRY)
OPTIONS = {
    **{name: (name, {}) for name in NAMES},
    "low_rank": ("hypernetwork", {"HYPERNETWORK__FORM": "low_rank"}),
    "reference p3": ("hyper_features", {"HYPER_FEATURES__REFERENCE": "p3", "HYPER_FEATURES__NORM": ""}),
    "few levels": ("hypercolumn", {"HYPERCOLUMN__IN_FEATURES": ["p2", "p4"], "HYPERCOLUMN__CHANNELS": 64}),
}


@pytest.fixture(params=OPTIONS)
def neck(request, make_neck):
    name, options = OPTIONS[request.param]
    neck = make_neck(name, **options)
    with torch.no_grad():  # gates that begin as the identity would hide what they do
        for p in neck.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return neck


@pytest.mark.parametrize("size", [(96, 96), (93, 70), (33, 130)])
@pytest.mark.parametrize("num_images", [1, 2])
def test_the_levels_have_the_shapes_that_are_told(neck, make_features, size, num_images):
    features = make_features(num_images, size)
    found = neck(features, "edge", [size] * num_images)
    assert list(found) == list(features) == list(neck.output_shape())
    for name, shape in neck.output_shape().items():
        assert found[name].shape == (num_images, shape.channels, *features[name].shape[-2:])
        assert shape.stride == neck.input_shape[name].stride


def test_channels_last_gives_the_same(neck, make_features):
    features = make_features()
    expected = neck(features, "edge", SIZES)
    neck.to(memory_format=torch.channels_last)
    found = neck({name: x.contiguous(memory_format=torch.channels_last) for name, x in features.items()}, "edge", SIZES)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_bf16_autocast_is_near_and_has_gradients(neck, make_features):
    features = {name: x.requires_grad_() for name, x in make_features().items()}
    expected = neck(features, "edge", SIZES)
    with torch.autocast("cpu", torch.bfloat16):
        found = neck({name: x.bfloat16() for name, x in features.items()}, "edge", SIZES)
    for name, value in expected.items():
        assert (found[name].float() - value).norm() <= 0.03 * value.norm(), name
    sum(x.float().square().sum() for x in found.values()).backward()
    assert all(features[name].grad.isfinite().all() and features[name].grad.any() for name in ("p2", "p4"))
    assert all(p.grad.isfinite().all() for p in neck.parameters() if p.grad is not None)


def test_the_images_of_a_batch_do_not_meet(neck, make_features):
    features = make_features()
    together = neck(features, "edge", SIZES)
    for i, size in enumerate(SIZES):
        alone = neck({name: x[i : i + 1] for name, x in features.items()}, "edge", [size])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][i : i + 1], value, rtol=1e-4, atol=1e-5)


def test_both_stages_together_are_the_neck_and_the_first_knows_no_task(neck, make_features):
    features = make_features()
    aggregated = neck.aggregate(features)
    for task in ("instance", "edge"):
        found, expected = neck.adapt(aggregated, task, SIZES), neck(features, task, SIZES)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_tasks_get_features_of_their_own_where_the_neck_has_parameters_for_them(neck, make_features):
    features = make_features()
    instance, edge = (neck(features, task, SIZES)["p2"] for task in ("instance", "edge"))
    assert torch.equal(instance, edge) == (not len(neck.by_task))


def test_features_are_not_changed_in_place(neck, make_features):
    features = make_features()
    neck(features, "edge", SIZES)
    assert all(torch.equal(x, make_features()[name]) for name, x in features.items())


def test_the_identity_gives_the_features_themselves(make_neck, make_features):
    features, neck = make_features(), make_neck("identity")
    assert neck(features, "edge", SIZES) is features
    assert not neck.state_dict()


def test_an_unknown_neck_lists_the_known(make_neck):
    with pytest.raises(ValueError, match=r"MODEL.MTL.NECK.NAME is 'hypernet': expected one of \['hyper_features', "):
        make_neck("hypernet")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hypercolumn", {"HYPERCOLUMN__IN_FEATURES": ["p3"]}, r"HYPERCOLUMN.IN_FEATURES is \['p3'\]: .* of stride 4"),
        ("hypercolumn", {"HYPERCOLUMN__IN_FEATURES": ["p2", "res2"]}, r"asks for \['res2'\]: the backbone gives"),
        ("hyper_features", {"HYPER_FEATURES__REFERENCE": "p7"}, r"HYPER_FEATURES.REFERENCE asks for \['p7'\]"),
        ("hypernetwork", {"HYPERNETWORK__FORM": "full"}, r"FORM is 'full': expected one of \['channel', 'low_rank'\]"),
        ("hypernetwork", {"HYPERNETWORK__DEPTH": 0}, "HYPERNETWORK.DEPTH is 0: expected 1 or more"),
        ("squeeze_excitation", {"SQUEEZE_EXCITATION__REDUCTION": 33}, "REDUCTION is 33: expected 1 to 32"),
    ],
)
def test_what_does_not_fit_is_one_sentence(make_neck, name, options, message):
    with pytest.raises(ValueError, match=message):
        make_neck(name, **options)
