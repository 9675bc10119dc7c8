"""Hypercolumns: the order of projecting and upsampling, what it saves, the descriptor by hand."""

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor
from torch.nn import functional as F

from mtl_d2.modeling.necks import HypercolumnNeck

LEVELS = ("p2", "p3", "p4", "p5")


def upsampled_first(neck: HypercolumnNeck, features: dict[str, Tensor]) -> Tensor:
    """The hypercolumn as it is defined: the concatenation, and one 1x1 convolution of it with the same weights."""
    size = features[neck.finest].shape[-2:]
    column = torch.cat(
        [F.interpolate(features[name], size=size, mode="bilinear", align_corners=False) for name in neck.levels], dim=1
    )
    weight = torch.cat([neck.projections[name].weight for name in neck.levels], dim=1)
    return F.conv2d(column, weight, neck.projections[neck.finest].bias)


@pytest.mark.parametrize("size", [(96, 96), (93, 70), (128, 32)])
@pytest.mark.parametrize("norm", ["", "GN"])
def test_projecting_first_equals_upsampling_first(make_neck, make_features, size, norm):
    neck = make_neck("hypercolumn", HYPERCOLUMN__IN_FEATURES=LEVELS, HYPERCOLUMN__NORM=norm)
    features = make_features(size=size)
    torch.testing.assert_close(neck.project(features), upsampled_first(neck, features), rtol=0, atol=1e-5)


def test_gradients_are_equal_too(make_neck, make_features):
    neck = make_neck("hypercolumn", HYPERCOLUMN__IN_FEATURES=LEVELS).double()
    features = {name: x.double() for name, x in make_features().items()}
    found = [torch.autograd.grad(f(features).sin().sum(), list(neck.projections.parameters())) for f in
             (neck.project, lambda x: upsampled_first(neck, x))]  # fmt: skip
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def kept_for_the_backward_pass(function: Callable[[], Tensor], known: list[Tensor]) -> int:
    """Values that autograd keeps beside the tensors that are there anyway."""
    there = {x.untyped_storage().data_ptr() for x in known}
    kept: dict[int, tuple[Tensor, int]] = {}

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in there:
            kept[x.untyped_storage().data_ptr()] = (x, x.untyped_storage().nbytes() // x.element_size())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = function()  # alive, so that no storage is used twice
    del result
    return sum(count for _, count in kept.values())


def test_what_projecting_first_saves(make_neck, make_features, capsys):
    """Upsampling first keeps the concatenation, L C n values, projecting first nothing beside the levels."""
    neck = make_neck("hypercolumn", HYPERCOLUMN__IN_FEATURES=LEVELS, HYPERCOLUMN__NORM="")
    features = make_features(1, (256, 256))
    known = [*features.values(), *neck.parameters()]
    ours = kept_for_the_backward_pass(lambda: neck.project(features), known)
    theirs = kept_for_the_backward_pass(lambda: upsampled_first(neck, features), known)
    weights = sum(neck.projections[name].weight.numel() for name in LEVELS)  # concatenated there
    cells = (256 // 4) ** 2
    assert ours == 0
    assert theirs == 4 * 32 * cells + weights
    with capsys.disabled():
        print(f"\nhypercolumn of 4 levels of 32 channels, 256 x 256 pixels: {4 * theirs / 2**20:.2f} MiB saved")


def test_the_descriptor_by_hand():
    neck = HypercolumnNeck({"p2": ShapeSpec(channels=1, stride=4), "p3": ShapeSpec(channels=1, stride=8)}, norm="")
    with torch.no_grad():
        neck.projections["p2"].weight.fill_(2.0)
        neck.projections["p2"].bias.fill_(-1.0)
        neck.projections["p3"].weight.fill_(10.0)
    p2, p3 = torch.tensor([[[[0.0, 1, 2, 3], [0, 0, 0, 0]]]]), torch.tensor([[[[0.0, 1]]]])
    found = neck({"p2": p2, "p3": p3}, "edge", [(8, 16)])
    # Bilinear to four cells: 0, 1/4, 3/4, 1.
    expected = torch.tensor([[0.0, 3.5, 10.5, 15], [0, 1.5, 6.5, 9]])
    torch.testing.assert_close(found["p2"][0, 0], expected)
    torch.testing.assert_close(found["p3"][0, 0], torch.tensor([[5 / 4, 41 / 4]]))
