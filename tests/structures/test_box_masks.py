"""Masks within their boxes say what full frames say."""

import numpy as np
import pytest
import torch

from mtl_d2.structures import BoxMask, BoxMasks
from mtl_d2.structures.box_masks import clip_mask, crop_mask, draw_masks, intersection_area, union_mask

SIZE = (20, 30)


@pytest.fixture
def frames():
    """Scattered pixels in boxes, one without a pixel, one all over."""
    rng = np.random.default_rng(0)
    frames = np.zeros((6, *SIZE), bool)
    for frame in frames[:4]:
        y, x = rng.integers(0, 12), rng.integers(0, 20)
        frame[y : y + 8, x : x + 10] = rng.random((8, 10)) > 0.4
    frames[5] = True
    return frames


def test_cropping_and_drawing_are_inverse(frames):
    masks = [crop_mask(frame) for frame in frames]
    assert np.array_equal(draw_masks(masks, SIZE), frames)
    assert [mask.area for mask in masks] == frames.sum(axis=(1, 2)).tolist()
    ys, xs = np.nonzero(frames[0])
    assert masks[0].window == (slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1))
    assert masks[4].pixels.size == 0


def test_a_crop_of_a_tile_lies_in_the_image(frames):
    mask = crop_mask(frames[0], top=100, left=7)
    assert (mask.top, mask.left) == (crop_mask(frames[0]).top + 100, crop_mask(frames[0]).left + 7)


def test_set_operations_equal_those_of_frames(frames):
    masks = [crop_mask(frame) for frame in frames]
    for a, first in zip(frames, masks, strict=True):
        for b, second in zip(frames, masks, strict=True):
            assert intersection_area(first, second) == (a & b).sum()
            assert np.array_equal(draw_masks([union_mask([first, second])], SIZE)[0], a | b)
        clipped = np.zeros_like(a)
        clipped[5:11, 8:21] = a[5:11, 8:21]
        assert np.array_equal(draw_masks([clip_mask(first, (slice(5, 11), slice(8, 21)))], SIZE)[0], clipped)


def test_masks_are_indexed_like_a_tensor(frames):
    masks = BoxMasks([crop_mask(frame) for frame in frames], SIZE)
    tensor = torch.from_numpy(frames)
    for item in (
        slice(1, 4),
        tensor.flatten(1).any(1),
        torch.tensor([3, 0]),
        np.array([5]),
        [2, 2],
        torch.zeros(6) > 0,
    ):
        expected = tensor[item]
        assert len(masks[item]) == len(expected)
        assert all(np.array_equal(found, frame) for found, frame in zip(masks[item], expected.numpy(), strict=True))
    assert len(masks[2]) == 1 and len(BoxMasks([], SIZE)[:3]) == 0
    assert BoxMask(0, 0, frames[0]).area == frames[0].sum()
