"""How far two networks' answers, losses and gradients are apart."""

import math

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from mtl_d2.benchmark.equality import gradient_difference, relative_difference


def _answer(score=0.5, shift=0.0):
    instances = Instances((8, 8), pred_boxes=Boxes(torch.tensor([[0.0, 0.0, 4.0, 4.0 + shift]])))
    instances.scores = torch.tensor([score])
    instances.pred_masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    segments = [{"id": 1, "isthing": True, "score": score}]
    return [{"instances": instances, "panoptic_seg": (torch.ones(8, 8, dtype=torch.int32), segments)}]


def test_the_same_is_zero_apart():
    assert relative_difference(_answer(), _answer()) == 0


def test_the_largest_difference_is_relative_to_the_tensor():
    assert relative_difference(_answer(shift=0.4), _answer()) == pytest.approx(0.1)
    assert relative_difference(_answer(score=0.75), _answer()) == pytest.approx(0.5)


def test_one_pixel_of_a_mask_is_a_difference():
    found = _answer()
    found[0]["instances"].pred_masks[0, 3, 3] = True
    assert relative_difference(found, _answer()) == 1


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"a": 1.0}, {"a": 1.0, "b": 1.0}),
        ([1.0], [1.0, 1.0]),
        ({"a": None}, {"a": torch.ones(2)}),
        (torch.ones(2), torch.ones(3)),
        (torch.tensor([math.nan]), torch.ones(1)),
        (torch.ones(1), torch.tensor([math.nan])),
        ("a", "b"),
    ],
)
def test_what_cannot_be_compared_is_infinitely_apart(found, expected):
    assert relative_difference(found, expected) == math.inf


def test_gradient_is_compared_with_the_sum_of_those_of_the_references():
    def linear(*grad):
        module = nn.Linear(2, 1, bias=False)
        module.weight.grad = torch.tensor([grad]) if grad else None
        return module

    assert gradient_difference(linear(3.0, 4.0), [linear(3.0, 0.0), linear(0.0, 4.0)]) == 0
    assert gradient_difference(linear(3.0, 5.0), [linear(3.0, 0.0), linear(0.0, 4.0)]) == pytest.approx(0.2)
    assert gradient_difference(linear(3.0, 4.0), [linear()]) == math.inf
    assert gradient_difference(linear(), [linear()]) == 0
