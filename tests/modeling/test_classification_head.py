"""The head of image classification: what is pooled, where it starts, what a config may ask for."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec

from mtl_d2.losses import asymmetric_loss, multi_label_bce_loss, multi_label_focal_loss
from mtl_d2.modeling import ClassificationHead, build_classification_head
from mtl_d2.testing import tiny_cfg

SHAPE = {"p2": ShapeSpec(channels=3, stride=4), "p3": ShapeSpec(channels=2, stride=8)}
KEY = "MODEL.MTL.CLASSIFICATION_HEAD"


def make_head(**options) -> ClassificationHead:
    torch.manual_seed(0)
    return ClassificationHead(SHAPE, num_classes=4, **options).eval()


def make_features(images: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sides = {"p2": (16, 24), "p3": (8, 12)}
    return {k: torch.randn(images, SHAPE[k].channels, *sides[k], generator=generator) for k in SHAPE}


def from_config(**options):
    overrides = {f"{KEY}.{key}": value for key, value in {"IN_FEATURES": ["p2", "p3"], **options}.items()}
    return build_classification_head(tiny_cfg(**overrides), SHAPE)


@pytest.mark.parametrize("pooling", ["avg", "max", "avg_max"])
def test_padding_is_not_pooled(pooling):
    head, features = make_head(pooling=pooling), make_features()
    sizes = [(64, 96), (37, 50)]
    expected, _ = head(features, sizes)
    for name, stride in (("p2", 4), ("p3", 8)):  # the second image reaches into ceil(37 / s) x ceil(50 / s) cells
        rows, columns = math.ceil(37 / stride), math.ceil(50 / stride)
        features[name][1, :, rows:], features[name][1, :, :, columns:] = math.inf, math.nan
    found, losses = head(features, sizes)
    assert losses == {} and torch.equal(found, expected)
    features["p3"][1, :, math.ceil(37 / 8) - 1] = 99.0  # the last row that the image reaches into
    assert not torch.equal(head(features, sizes)[0], expected)


def test_logits_are_those_of_the_pooled_vectors():
    head, features = make_head(pooling="avg_max"), make_features()
    pooled = [f(x.flatten(2), -1) for x in features.values() for f in (torch.mean, torch.amax)]
    expected = torch.cat(pooled, dim=1) @ head.predictor.weight.T + head.predictor.bias
    torch.testing.assert_close(head(features, [(64, 96)] * 2)[0], expected)


def test_an_images_logits_do_not_depend_on_the_others():
    head, features = make_head(hidden_dim=5), make_features()
    alone, _ = head({k: v[1:] for k, v in features.items()}, [(40, 40)])
    torch.testing.assert_close(head(features, [(64, 96), (40, 40)])[0][1:], alone)


def test_every_class_starts_at_the_prior():
    head = make_head(prior_prob=0.2)
    assert torch.allclose(head.predictor.bias.sigmoid(), torch.tensor(0.2))


def test_dropout_acts_in_training_alone():
    head, features = make_head(dropout=0.5, hidden_dim=8), make_features()
    sizes = [(64, 96)] * 2
    assert torch.equal(head(features, sizes)[0], head(features, sizes)[0])
    head.train()
    assert not torch.equal(head.layers(features, sizes), head.layers(features, sizes))


@pytest.mark.parametrize(
    ("name", "loss"),
    [("bce", multi_label_bce_loss), ("focal", multi_label_focal_loss), ("asymmetric", asymmetric_loss)],
)
def test_the_loss_is_the_configured_one(name, loss):
    head, features = from_config(LOSS=name, LOSS_WEIGHT=3.0, CLASS_WEIGHTS=[1.0, 3.0]), make_features()
    targets = torch.tensor([[1.0, 0], [0, -1]])
    sizes = [(64, 96), (64, 96)]
    logits, losses = head(features, sizes, targets)
    assert logits is None and set(losses) == {"loss_classification"}
    expected = 3 * loss(head.layers(features, sizes), targets, weight=torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(losses["loss_classification"], expected)
    losses["loss_classification"].backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_the_options_of_the_losses_are_keys():
    targets, logits = torch.tensor([[1.0, 0]]), torch.tensor([[0.5, 0.3]])
    options = {"ASYMMETRIC.GAMMA_POS": 1.0, "ASYMMETRIC.GAMMA_NEG": 2.0, "ASYMMETRIC.SHIFT": 0.2}
    found = from_config(LOSS="asymmetric", **options).losses(logits, targets)["loss_classification"]
    torch.testing.assert_close(found, asymmetric_loss(logits, targets, gamma_pos=1, gamma_neg=2, shift=0.2))
    head = from_config(LOSS="focal", FOCAL_ALPHA=0.6, FOCAL_GAMMA=1.0)
    found = head.losses(logits, targets)["loss_classification"]
    torch.testing.assert_close(found, multi_label_focal_loss(logits, targets, alpha=0.6, gamma=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"IN_FEATURES": ["p2", "p9"]}, r"IN_FEATURES asks for \['p9'\]: the backbone gives \['p2', 'p3'\]"),
        ({"IN_FEATURES": []}, "IN_FEATURES asks for no level"),
        ({"POOLING": "mean"}, "POOLING is 'mean': expected one of"),
        ({"DROPOUT": 1.0}, "DROPOUT is 1.0: expected a share"),
        ({"PRIOR_PROB": 0.0}, "PRIOR_PROB is 0.0: expected a probability"),
        ({"LOSS": "ce"}, "LOSS is 'ce': expected one of"),
        ({"LOSS": "focal", "FOCAL_GAMMA": -1.0}, "FOCAL_GAMMA is -1.0, expected a finite"),
        ({"LOSS": "focal", "FOCAL_ALPHA": 1.5}, "FOCAL_ALPHA is 1.5, expected a share"),
        ({"LOSS": "asymmetric", "ASYMMETRIC.GAMMA_POS": -1.0}, "ASYMMETRIC.GAMMA_POS is -1.0, expected a finite"),
        ({"LOSS": "asymmetric", "ASYMMETRIC.GAMMA_NEG": float("nan")}, "ASYMMETRIC.GAMMA_NEG is nan, expected a"),
        ({"LOSS": "asymmetric", "ASYMMETRIC.SHIFT": 1.0}, "ASYMMETRIC.SHIFT is 1.0, expected a probability"),
        ({"NAME": "Head"}, r"NAME is 'Head': expected one of \['ClassificationHead'"),
        ({"CLASS_WEIGHTS": [1.0]}, "CLASS_WEIGHTS has 1 numbers, expected 2"),
    ],
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        from_config(**options)
