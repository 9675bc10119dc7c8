"""The class weights that a head holds, and what is refused."""

import math

import pytest
import torch

from mtl_d2.modeling.class_weights import ClassWeights


def build(weights, count=3):
    return ClassWeights(weights, count, key="THE.KEY", classes="each class")


def test_weights_are_given_as_they_are_and_no_part_of_a_checkpoint():
    holder = build((0.5, 0, 2))
    assert torch.equal(holder(), torch.tensor([0.5, 0.0, 2.0]))
    assert not holder.state_dict() and not list(holder.parameters())
    assert holder.double()().dtype == torch.float64  # it moves with the network


def test_no_weights_are_none():
    assert build(None)() is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"THE.KEY has 2 numbers, expected 3: one for each class"),
        ([], r"has 0 numbers, expected 3"),
        ([1.0, -0.5, 1], r"THE.KEY\[1\] is -0.5, expected a finite number, 0 or more"),
        ([1.0, 1.0, math.nan], r"THE.KEY\[2\] is nan"),
        ([math.inf, 1.0, 1.0], r"THE.KEY\[0\] is inf"),
        ([1.0, "2", 1.0], r"THE.KEY\[1\] is '2'"),
        ([0, 0.0, 0], r"THE.KEY is 0 for every class"),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        build(weights)


def test_a_word_that_was_not_counted_is_an_error_of_the_training_alone():
    holder = build("median")
    with pytest.raises(ValueError, match="THE.KEY is 'median', which is counted from the training set before"):
        holder()
