import numpy as np
import pytest
from scipy import ndimage
from skimage import morphology

from mtl_d2.structures import thin
from mtl_d2.structures.thinning import PixelThinner


def test_same_pixels_as_scikit_image():
    rng = np.random.default_rng(0)
    for case in range(200):
        binary = rng.random(rng.integers(1, 40, 2)) < rng.random()
        if case % 2:
            binary = ndimage.binary_dilation(rng.random((40, 50)) < 0.02, iterations=case % 5 + 1)
        assert (thin(binary) == morphology.thin(binary)).all()


def test_bar_becomes_a_line():
    bar = np.zeros((7, 12), bool)
    bar[2:5, 1:11] = True
    thinned = thin(bar)
    assert set(np.nonzero(thinned)[0]) == {3}


def test_thinner_forgets_the_map_before():
    thinner = PixelThinner((8, 9))
    full = np.arange(72)
    first = thinner(full)
    assert thinner(np.array([10])).tolist() == [10]
    assert (thinner(full) == first).all()


def test_empty_and_wrong_shapes():
    assert thin(np.zeros((0, 4))).shape == (0, 4)
    assert not thin(np.zeros((3, 3))).any()
    with pytest.raises(ValueError, match="H, W"):
        thin(np.zeros(3))
