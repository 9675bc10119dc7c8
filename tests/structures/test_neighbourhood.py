import numpy as np
import pytest

from mtl_d2.structures.neighbourhood import differs_nearby, disc, square


def by_definition(ids, unknown, kernel):
    """Each pixel against each other one under the kernel around it."""
    height, width = ids.shape
    radius = len(kernel) // 2
    result = np.zeros(ids.shape, bool)
    for y, x in np.ndindex(ids.shape):
        for dy, dx in np.argwhere(kernel) - radius:
            v, u = y + dy, x + dx
            if 0 <= v < height and 0 <= u < width and not unknown[y, x] and not unknown[v, u]:
                result[y, x] |= ids[y, x] != ids[v, u]
    return result


def test_kernels():
    assert square(1).tolist() == [[1, 1, 1]] * 3
    assert disc(1).tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert disc(2).tolist() == [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1] * 5, [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.uint8, [0, 1, 255]),
        (np.uint16, [0, 256, 65535]),
        (np.int64, [-3, 2, 5]),
        (np.int32, [5, 5 + 2**16, 2**31 - 1]),
    ],
)
@pytest.mark.parametrize("kernel", [disc(1), disc(2), square(2)], ids=["disc1", "disc2", "square2"])
def test_equals_the_definition_for_ids_of_any_size(values, kernel, dtype):
    rng = np.random.default_rng(0)
    for density in (0.97, 0.6):
        ids = rng.choice(values, size=(11, 9), p=[density, 1 - density - 0.01, 0.01]).astype(dtype)
        unknown = rng.random(ids.shape) < 0.2
        assert np.array_equal(differs_nearby(ids, unknown, kernel), by_definition(ids, unknown, kernel))
        known = np.zeros(ids.shape, bool)
        assert np.array_equal(differs_nearby(ids, None, kernel), by_definition(ids, known, kernel))


def test_nothing_known_and_nothing_at_all():
    ids = np.arange(6).reshape(2, 3)
    assert not differs_nearby(ids, np.ones((2, 3), bool), disc(1)).any()
    assert differs_nearby(np.zeros((0, 3), int), None, disc(1)).shape == (0, 3)
