import numpy as np
import pytest

from mtl_d2.structures.boundary import band_width, boundary_band, label_bands


def by_definition(mask, width):
    """The paper's recipe, step by step: pad by one zero, erode by 3 x 3 pixels, take away."""
    inner = np.pad(mask, 1)
    for _ in range(width):
        padded = np.pad(inner, 1, constant_values=True)  # beyond the frame nothing erodes
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
        inner = windows.all(axis=(2, 3))
    return mask & ~inner[1:-1, 1:-1]


@pytest.mark.parametrize(
    ("size", "fraction", "expected"),
    [
        ((480, 640), 0.02, 16),
        ((1024, 2048), 0.005, 11),
        ((8, 8), 0.02, 1),  # at least one pixel
        ((225, 300), 0.02, 8),  # 7.5 and
        ((375, 500), 0.02, 12),  # 12.5: halves go to the even number, as in the paper's code
    ],
)
def test_width_is_a_rounded_fraction_of_the_diagonal(size, fraction, expected):
    assert band_width(size, fraction) == expected


def test_band_of_a_square_and_of_one_at_the_border():
    mask = np.zeros((6, 7), bool)
    mask[1:6, 2:7] = True
    expected = mask.copy()
    expected[2:5, 3:6] = False  # the border of the image is contour as well
    assert np.array_equal(boundary_band(mask, 1), expected)
    expected[2:5, 3:6] = [[True] * 3, [True, False, True], [True] * 3]
    assert np.array_equal(boundary_band(mask, 2), expected)
    assert np.array_equal(boundary_band(mask, 3), mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 3), (24, 31)])
def test_band_equals_the_definition_in_the_frame_and_in_its_own_box(size):
    rng = np.random.default_rng(0)
    for width in (1, 2, 5):
        mask = np.kron(rng.random((4, 4)) < 0.7, np.ones((7, 9)))[: size[0], : size[1]].astype(bool)
        expected = by_definition(mask, width)
        assert np.array_equal(boundary_band(mask, width), expected)
        framed = np.pad(mask, ((3, 9), (9, 3)))
        assert np.array_equal(by_definition(framed, width)[3:-9, 9:-3], expected)


def test_no_mask_and_tiny_masks():
    assert not boundary_band(np.zeros((3, 4), bool), 2).any()
    assert boundary_band(np.ones((1, 1), bool), 1).all()


@pytest.mark.parametrize("num_classes", [3, 254, 255, 300])
def test_bands_of_a_label_map_are_those_of_each_class(num_classes):
    """Void neither is a band nor makes one: for each class it counts as a part of the class while that is eroded."""
    rng = np.random.default_rng(num_classes)
    blocks = rng.choice([0, 1, num_classes - 1], size=(5, 6))
    ids = np.kron(blocks, np.ones((6, 5), int))
    void = np.kron(rng.random((10, 10)) < 0.1, np.ones((3, 3))).astype(bool)
    for width in (1, 3):
        expected = np.zeros(ids.shape, bool)
        for k in np.unique(ids):
            expected |= by_definition((ids == k) | void, width) & ~void & (ids == k)
        found = label_bands(np.where(void, num_classes, ids), void, width)
        assert np.array_equal(found, expected)
        assert 0 < found.mean() < 1
