"""Means over images without their padding."""

import torch

from mtl_d2.modeling.necks.levels import max_pool, mean_over_images, mean_pool


def test_the_mean_is_over_the_cells_that_the_image_reaches():
    x = torch.full((2, 1, 3, 3), 100.0)  # padding
    x[0, 0, :2, :3] = torch.tensor([[1.0, 2, 3], [4, 5, 9]])
    x[1, 0, :1, :1] = 7
    assert mean_over_images(x, 8, [(9, 24), (8, 3)]).tolist() == [[4.0], [7.0]]


def test_it_is_in_float32_and_bounded_by_the_map():
    x = torch.full((1, 2, 300, 300), 1.001, dtype=torch.bfloat16)
    found = mean_over_images(x, 4, [(10**6, 10**6)])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, x[:, :, 0, 0].float(), rtol=1e-5, atol=0)


def test_pooling_rounds_up_and_takes_what_is_there():
    x = torch.arange(5.0).view(1, 1, 1, 5)
    assert mean_pool(x, 2).flatten().tolist() == [0.5, 2.5, 4.0]
    assert max_pool(x, 2).flatten().tolist() == [1.0, 3.0, 4.0]
    assert mean_pool(x, 1) is x
