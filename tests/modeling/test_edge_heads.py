"""What every edge head does: strides, levels, memory formats, odd sizes, memory, keys; and what each costs."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from fvcore.nn import FlopCountAnalysis
from torch import nn

from mtl_d2.losses import tracing_loss
from mtl_d2.modeling.edge import EDGE_HEADS_REGISTRY, FPNEdgeHead, HEDEdgeHead, LightEdgeHead, build_edge_head
from mtl_d2.testing import random_batched_inputs, tiny_cfg
from tests.tensor_memory import LargestTensor

HEADS = [FPNEdgeHead, HEDEdgeHead, LightEdgeHead]
SHAPES = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (2, 3, 4, 5)}
KEY = "MODEL.MTL.EDGE_HEAD"

each_head = pytest.mark.parametrize("head_class", HEADS)


def _inputs(n=2, height=64, width=96, shapes=SHAPES):
    torch.manual_seed(0)
    features = {k: torch.randn(n, s.channels, height // s.stride, width // s.stride) for k, s in shapes.items()}
    return features, torch.randn(n, 3, height, width)


def _build(head_class, shapes=SHAPES, **kwargs):
    torch.manual_seed(0)
    if head_class is not HEDEdgeHead:
        kwargs.setdefault("conv_dims", 32)
    return head_class(shapes, **{"stem_dim": 8, **kwargs})


def _targets(n=2, height=64, width=96):
    targets = torch.zeros(n, height, width, dtype=torch.long)
    targets[:, 10:50, 20] = 1
    targets[:, :3] = 255
    return targets


@each_head
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("stem_dim", [0, 8])
@pytest.mark.parametrize("levels", [("p2", "p3", "p4", "p5"), ("p2", "p4"), ("p3",)])
def test_predicts_at_the_stride_asked_for_and_answers_at_full_resolution(head_class, stride, stem_dim, levels):
    shapes = {level: SHAPES[level] for level in levels}
    head = _build(head_class, shapes, stride=stride, stem_dim=stem_dim)
    features, images = _inputs(shapes=shapes)
    assert head.layers(features, images).shape == (2, 1, 64 // stride, 96 // stride)
    logits, losses = head.eval()(features, images)
    assert logits.shape == (2, 1, 64, 96) and logits.dtype == torch.float32 and losses == {}
    answer, losses = head.train()(features, images, _targets())
    assert answer is None and set(losses) == set(head.loss_names)
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


@each_head
def test_groups_of_the_norm_fit_the_channels(head_class):
    of_decoder = {} if head_class is HEDEdgeHead else {"conv_dims": 48}
    for options, groups in (({"stem_dim": 3, **of_decoder}, {12: 4, 48: 16}), ({"stem_dim": 16}, {64: 32, 32: 32})):
        head = _build(head_class, **options)
        found = {m.num_channels: m.num_groups for m in head.modules() if isinstance(m, nn.GroupNorm)}
        assert found and found.items() <= groups.items()
        assert head.layers(*_inputs()).shape == (2, 1, 64, 96)


@each_head
def test_every_parameter_and_every_level_learns(head_class):
    head = _build(head_class)
    features, images = _inputs()
    for feature in features.values():
        feature.requires_grad_()
    sum(head(features, images, _targets())[1].values()).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(feature.grad.any() for feature in features.values())


@each_head
@pytest.mark.parametrize("stride", [1, 4])
def test_nothing_valid_is_zero_with_a_gradient(head_class, stride):
    head = _build(head_class, stride=stride)
    features, images = _inputs()
    losses = head(features, images, torch.full((2, 64, 96), 255))[1]
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


@each_head
def test_both_memory_formats_answer_alike_and_the_stem_follows_the_features(head_class):
    head = _build(head_class).eval()
    seen = []
    head.stem[0].register_forward_pre_hook(
        lambda module, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    features, images = _inputs()
    expected = head(features, images)[0]
    last = {level: x.contiguous(memory_format=torch.channels_last) for level, x in features.items()}
    for memory_format in (torch.channels_last, torch.contiguous_format):
        found = head(last, images.contiguous(memory_format=memory_format))[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert seen == [False, True, True]


@each_head
def test_half_precision_features_give_float32_logits_and_losses(head_class):
    head = _build(head_class)
    features, images = _inputs()
    with torch.autocast("cpu", torch.bfloat16):
        losses = head(features, images, _targets())[1]
        logits = head.eval()(features, images)[0]
    assert logits.dtype == torch.float32 and all(loss.dtype == torch.float32 for loss in losses.values())


@each_head
@pytest.mark.parametrize("stride", [1, 2])
def test_memory_is_bounded_as_the_docstring_says(head_class, stride):
    """The largest tensor made forward and backward, features and labels aside."""
    height, width = 128, 192
    head = _build(head_class, stride=stride)
    features, images = _inputs(1, height, width)
    targets = _targets(1, height, width).to(torch.uint8)
    cells = height * width / head.cell**2
    sides = 5 * height * width / stride**2 if head_class is HEDEdgeHead else 0
    joined = 32 * cells if head_class is HEDEdgeHead else (32 + 32) * cells
    with LargestTensor() as largest:
        sum(head(features, images, targets)[1].values()).backward()
    assert largest.bytes == 4 * max(joined, sides, 3 * height * width)


@pytest.mark.parametrize(("head_class", "stride"), [(FPNEdgeHead, 4), (HEDEdgeHead, 1), (LightEdgeHead, 2)])
def test_the_model_pads_images_of_odd_sizes_and_has_the_same_losses_without_a_label(head_class, stride):
    cfg = tiny_cfg(["edge"], **{f"{KEY}.NAME": head_class.__name__, f"{KEY}.STRIDE": stride})
    torch.manual_seed(0)
    model = build_model(cfg)
    inputs = random_batched_inputs(2, sizes=((61, 83), (33, 47)), tasks=["edge"])
    with EventStorage():
        losses = model(inputs)
        unlabelled = model(random_batched_inputs(1, tasks=[[]]))
    assert set(model.edge_head.loss_names) <= losses.keys() == unlabelled.keys()
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [tuple(output["edge"].shape) for output in model.eval()(inputs)] == [(61, 83), (33, 47)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"NAME": "CannyHead"}, r"EDGE_HEAD.NAME is 'CannyHead': expected one of .*'HEDEdgeHead', 'LightEdgeHead'"),
        ({"STRIDE": 8}, r"EDGE_HEAD.STRIDE is 8: expected a divisor of 4"),
        ({"STRIDE": 0}, r"EDGE_HEAD.STRIDE is 0: expected a divisor of 4"),
        ({"STEM_DIM": -1}, r"EDGE_HEAD.STEM_DIM is -1: expected 0, for no stem, or more"),
        (
            {"IN_FEATURES": ["p2", "p9"]},
            r"IN_FEATURES asks for \['p9'\]: the backbone gives \['p2', .*'p5'\]",
        ),
        ({"IN_FEATURES": []}, r"EDGE_HEAD.IN_FEATURES asks for no feature: the backbone gives"),
        ({"LOSS": "canny"}, r"EDGE_HEAD.LOSS is 'canny': expected one of \['dice', .*'tracing'\]"),
        ({"HED.DEEP_WEIGHT": -1.0, "NAME": "HEDEdgeHead"}, r"EDGE_HEAD.HED.DEEP_WEIGHT is -1.0, expected 0 or more"),
        ({"TRACING.BOUNDARY_WEIGHT": -1.0, "LOSS": "tracing"}, r"TRACING.BOUNDARY_WEIGHT is -1.0, expected 0 or more"),
        ({"TRACING.TEXTURE_WEIGHT": -1.0, "LOSS": "tracing"}, r"TRACING.TEXTURE_WEIGHT is -1.0, expected 0 or more"),
    ],
)
def test_a_wrong_key_is_told_in_one_sentence(overrides, message):
    cfg = tiny_cfg(**{f"{KEY}.{key}": value for key, value in overrides.items()})
    with pytest.raises(ValueError, match=message) as error:
        build_edge_head(cfg, SHAPES)
    assert str(error.value).startswith("MODEL.MTL.EDGE_HEAD.") and "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["BOUNDARY_WEIGHT", "TEXTURE_WEIGHT"])
def test_the_weights_of_the_tracing_loss_reach_it(key):
    torch.manual_seed(0)
    logits, targets = torch.randn(1, 16, 16), torch.zeros(1, 16, 16, dtype=torch.long)
    targets[:, :, 2] = 1
    cfg = tiny_cfg(**{f"{KEY}.LOSS": "tracing", f"{KEY}.TRACING.{key}": 1.5})
    expected = tracing_loss(logits, targets, **{key.lower(): 1.5})
    assert build_edge_head(cfg, SHAPES).loss(logits, targets) == expected != tracing_loss(logits, targets)


def _costs(head_class: type[nn.Module]) -> tuple[int, float]:
    """Parameters, and multiply-adds for a 1024x1024 image with the features of a ResNet's FPN."""
    shapes = {level: ShapeSpec(channels=256, stride=shape.stride) for level, shape in SHAPES.items()}
    head = head_class(shapes).eval()
    flops = FlopCountAnalysis(head, _inputs(1, 128, 128, shapes))
    flops.unsupported_ops_warnings(False).tracer_warnings("none")
    return sum(p.numel() for p in head.parameters()), flops.total() * 64


def test_the_light_head_costs_an_eighth_of_the_fpn_head_as_its_docstring_says():
    assert _costs(FPNEdgeHead) == pytest.approx((845e3, 23.8e9), rel=0.01)
    assert _costs(LightEdgeHead) == pytest.approx((90e3, 3.1e9), rel=0.01)


def test_all_heads_are_registered():
    assert {head_class.__name__ for head_class in HEADS} <= {name for name, _ in EDGE_HEADS_REGISTRY}
