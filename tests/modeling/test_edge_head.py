"""The FPN edge head: its stem, its blocks of logits, its loss, its keys; test_edge_heads.py has what all heads do."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch.nn import functional as F

from mtl_d2.losses import EDGE_LOSSES
from mtl_d2.modeling.edge import FPNEdgeHead, build_edge_loss
from mtl_d2.testing import tiny_cfg

SHAPES = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (2, 3, 4, 5)}


def _inputs(n=2, height=64, width=96):
    torch.manual_seed(0)
    features = {k: torch.randn(n, 8, height // s.stride, width // s.stride) for k, s in SHAPES.items()}
    return features, torch.randn(n, 3, height, width)


def _head(**kwargs):
    torch.manual_seed(0)
    return FPNEdgeHead(SHAPES, conv_dims=32, **kwargs)


def test_the_stem_sees_what_the_features_do_not():
    features, images = _inputs()
    for stem_dim, differs in ((8, True), (0, False)):
        head = _head(stem_dim=stem_dim).eval()
        assert torch.equal(head(features, images)[0], head(features, -images)[0]) is not differs


def test_a_block_of_logits_becomes_its_own_pixels():
    """Cell (i, j) of the r * r channels holds rows 4i .. 4i + 3, columns 4j .. 4j + 3, row by row."""
    head = _head(stem_dim=0).eval()
    features, images = _inputs(1)
    with torch.no_grad():
        head.predictor.weight.zero_()
        head.predictor.bias.copy_(torch.arange(16.0))
    logits = head(features, images)[0][0, 0]
    assert torch.equal(logits[4:8, 8:12], torch.arange(16.0).view(4, 4))


@pytest.mark.parametrize("stride", [1, 4])
def test_loss_is_the_function_given_on_max_pooled_targets(stride):
    head = _head(stride=stride, loss=EDGE_LOSSES["fixed"], loss_weight=0.5)
    features, images = _inputs()
    targets = torch.zeros(2, 64, 96, dtype=torch.long)
    targets[0, 5, 7] = 1
    pooled = F.max_pool2d(targets[:, None].float(), stride)[:, 0].long()
    expected = 0.5 * EDGE_LOSSES["fixed"](head.layers(features, images)[:, 0], pooled)
    torch.testing.assert_close(head(features, images, targets)[1]["loss_edge"], expected)


def test_the_fixed_loss_has_the_weight_that_the_config_says():
    cfg = tiny_cfg(**{"MODEL.MTL.EDGE_HEAD.LOSS": "fixed", "MODEL.MTL.EDGE_HEAD.POSITIVE_WEIGHT": 0.8})
    levels = {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 6)}
    loss = FPNEdgeHead(cfg, levels).loss(torch.zeros(1, 1, 4), torch.tensor([[[1, 0, 0, 255]]]))
    assert loss.item() == pytest.approx((0.8 + 2 * 0.2) / 3 * math.log(2))
    cfg.MODEL.MTL.EDGE_HEAD.POSITIVE_WEIGHT = 1.0
    with pytest.raises(ValueError, match=r"MODEL.MTL.EDGE_HEAD.POSITIVE_WEIGHT is 1.0, expected a share in \(0, 1\)"):
        FPNEdgeHead(cfg, levels)


@pytest.fixture
def focal_cfg():
    return tiny_cfg(**{"MODEL.MTL.EDGE_HEAD.LOSS": "focal"})


@pytest.mark.parametrize(("alpha", "weights"), [(0.6, 0.6 + 2 * 0.4), (-1.0, 3)])
def test_the_focal_loss_has_the_options_that_the_config_says(focal_cfg, alpha, weights):
    """One edge pixel, two others and an ignored one, all at p = 1/2, so that gamma 3 makes an eighth of each."""
    head = focal_cfg.MODEL.MTL.EDGE_HEAD
    head.FOCAL_ALPHA, head.FOCAL_GAMMA = alpha, 3.0
    loss = build_edge_loss(head)(torch.zeros(1, 1, 4), torch.tensor([[[1, 0, 0, 255]]]))
    assert loss.item() == pytest.approx(weights / 3 / 8 * math.log(2))


def test_the_focal_loss_is_by_default_that_of_the_paper(focal_cfg):
    logits, targets = torch.linspace(-2, 2, 4).view(1, 1, 4), torch.tensor([[[1, 0, 0, 255]]])
    assert build_edge_loss(focal_cfg.MODEL.MTL.EDGE_HEAD)(logits, targets) == EDGE_LOSSES["focal"](logits, targets)


@pytest.mark.parametrize(
    ("key", "value"),
    [("FOCAL_GAMMA", -1.0), ("FOCAL_GAMMA", float("nan")), ("FOCAL_ALPHA", 1.0), ("FOCAL_ALPHA", 25.0)],
)
def test_an_option_of_focal_out_of_range_is_named(focal_cfg, key, value):
    focal_cfg.MODEL.MTL.EDGE_HEAD[key] = value
    with pytest.raises(ValueError, match=f"MODEL.MTL.EDGE_HEAD.{key} is {value}, expected "):
        build_edge_loss(focal_cfg.MODEL.MTL.EDGE_HEAD)


def test_the_keys_of_the_weights_are_those_of_checkpoints():
    modules = {key.rpartition(".")[0] for key in _head().state_dict()}
    decoder = {
        f"decoder.{level}.{i}" for level, n in (("p2", 1), ("p3", 1), ("p4", 2), ("p5", 3)) for i in range(0, 2 * n, 2)
    }
    convs = decoder | {"stem.0", "stem.1", "fuse"}
    assert modules == convs | {f"{conv}.norm" for conv in convs} | {"decoder.predictor", "predictor"}
