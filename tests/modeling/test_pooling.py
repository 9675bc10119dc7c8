"""Max pooling with places, and unpooling."""

import pytest
import torch
from torch.nn import functional as F

from mtl_d2.modeling.pooling import max_pool_with_positions, max_unpool


def test_values_go_back_to_where_they_stood():
    x = torch.tensor([[1.0, 5, 2, 0], [3, 4, 9, 8], [7, 6, 1, 1], [0, 2, 1, 3]])[None, None]
    values, positions = max_pool_with_positions(x)
    assert values[0, 0].tolist() == [[5, 9], [7, 3]]
    assert positions[0, 0].tolist() == [[1, 2], [0, 3]] and positions.dtype == torch.uint8
    expected = [[0, 5, 0, 0], [0, 0, 9, 0], [7, 0, 0, 0], [0, 0, 0, 3]]
    assert max_unpool(values, positions)[0, 0].tolist() == expected


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_both_are_those_of_torch(memory_format):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 12).contiguous(memory_format=memory_format)
    values, positions = max_pool_with_positions(x)
    reference, indices = F.max_pool2d(x, 2, return_indices=True)
    unpooled = max_unpool(values, positions)
    assert torch.equal(values, reference)
    assert torch.equal(unpooled, F.max_unpool2d(reference, indices, 2))
    assert unpooled.is_contiguous(memory_format=memory_format)


def test_an_odd_row_and_column_are_left_out_and_places_stay_within_their_windows():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 7, 9)
    values, positions = max_pool_with_positions(x)
    even, places = max_pool_with_positions(x[..., :6, :8])
    assert torch.equal(values, even) and torch.equal(positions, places)


def test_the_gradient_goes_to_the_maxima():
    torch.manual_seed(0)
    positions = torch.randint(0, 4, (1, 2, 2, 3), dtype=torch.uint8)
    x = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: max_unpool(x, positions), x)
