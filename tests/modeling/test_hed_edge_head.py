"""The head with side outputs: the fused map and the losses by hand."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch.nn import functional as F

from mtl_d2.losses import EDGE_LOSSES
from mtl_d2.modeling.edge import HEDEdgeHead

SHAPES = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (2, 3, 5)}


def _head(**kwargs):
    torch.manual_seed(0)
    head = HEDEdgeHead(SHAPES, stem_dim=8, **kwargs)
    torch.nn.init.normal_(head.fuse.weight)  # not all alike
    torch.nn.init.constant_(head.fuse.bias, 0.25)
    return head


def _inputs(height=64, width=96):
    torch.manual_seed(1)
    features = {k: torch.randn(2, 8, height // s.stride, width // s.stride) for k, s in SHAPES.items()}
    return features, torch.randn(2, 3, height, width)


def _sides_by_hand(head, features, images):
    """Levels scored, then enlarged; of the stem's r * r scores a cell, each its own pixel."""
    size = (images.shape[2] // head.stride, images.shape[3] // head.stride)
    sides = []
    for level in ("p2", "p3", "p5"):
        conv = head.scores[level]
        score = (features[level] * conv.weight[0]).sum(1, keepdim=True) + conv.bias
        sides.append(F.interpolate(score, size=size, mode="bilinear", align_corners=False)[:, 0])
    scores, r = F.conv2d(head.stem(images), head.stem_score.weight, head.stem_score.bias), 4 // head.stride
    side = torch.empty(2, *size)
    for row in range(r):
        for column in range(r):
            side[:, row::r, column::r] = scores[:, row * r + column]
    return [*sides, side]


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_fused_map_is_the_weighted_sum_of_the_sides(stride):
    head = _head(stride=stride).eval()
    features, images = _inputs()
    sides = _sides_by_hand(head, features, images)
    fused = sum(w * side for w, side in zip(head.fuse.weight[0, :, 0, 0], sides, strict=True)) + 0.25
    torch.testing.assert_close(head.layers(features, images)[:, 0], fused)
    answer = F.interpolate(fused[:, None], scale_factor=stride, mode="bilinear") if stride > 1 else fused[:, None]
    torch.testing.assert_close(head(features, images)[0], answer)


def test_at_first_the_fused_map_is_the_mean_of_the_sides():
    torch.manual_seed(0)
    head = HEDEdgeHead(SHAPES, stem_dim=8)
    features, images = _inputs()
    sides = head.side_outputs(features, images)
    assert sides.shape == (2, 4, 64, 96)
    torch.testing.assert_close(head.layers(features, images), sides.mean(1, keepdim=True))


@pytest.mark.parametrize("stride", [1, 4])
def test_each_side_and_the_fused_map_is_supervised(stride):
    head = _head(stride=stride, deep_weight=0.5, loss_weight=3.0, loss=EDGE_LOSSES["fixed"])
    features, images = _inputs()
    targets = torch.zeros(2, 64, 96, dtype=torch.long)
    targets[:, 5:40, 7] = 1
    pooled = F.max_pool2d(targets[:, None].float(), stride)[:, 0].long()
    sides = _sides_by_hand(head, features, images)
    expected = {
        "loss_edge": 3 * EDGE_LOSSES["fixed"](head.layers(features, images)[:, 0], pooled),
        "loss_edge_side": 1.5 * sum(EDGE_LOSSES["fixed"](side, pooled) for side in sides),
    }
    torch.testing.assert_close(head(features, images, targets)[1], expected)


def test_without_deep_weight_there_is_no_loss_of_the_sides():
    head = _head(deep_weight=0.0)
    losses = head(*_inputs(), torch.ones(2, 64, 96, dtype=torch.long))[1]
    assert tuple(losses) == head.loss_names == ("loss_edge",)
