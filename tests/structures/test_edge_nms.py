import numpy as np
import pytest

from mtl_d2.structures import edge_nms
from mtl_d2.structures.edge_nms import triangle_smooth


def blurred_line(horizontal: bool) -> np.ndarray:
    profile = np.exp(-((np.arange(40) - 20) ** 2) / 8).astype(np.float32)
    image = np.repeat(profile[:, None], 40, axis=1)
    return image if horizontal else image.T


@pytest.mark.parametrize("horizontal", [True, False])
def test_blurred_line_keeps_its_ridge_alone(horizontal):
    nms = edge_nms(blurred_line(horizontal))
    nms = nms if horizontal else nms.T
    assert set(np.nonzero(nms[:, 8:-8])[0]) == {20}


def test_diagonal_line_keeps_its_ridge_alone():
    y, x = np.mgrid[:40, :40]
    nms = edge_nms(np.exp(-((y - x) ** 2) / 16.0))[8:-8, 8:-8]
    rows, columns = np.nonzero(nms)
    assert (rows == columns).all() and len(rows) == 24


def test_values_are_the_smoothed_ones_and_fade_towards_the_border():
    nms = edge_nms(blurred_line(True))
    peak = (2 + 2 * np.exp(-1 / 8)) / 4
    assert nms[20, 20] == pytest.approx(peak, rel=1e-5)
    assert nms[20, :6] == pytest.approx(peak * np.array([0, 0.2, 0.4, 0.6, 0.8, 1]), rel=1e-5)
    assert nms[20, -6:] == pytest.approx(nms[20, :6][::-1], rel=1e-5)


def test_triangle_filter_of_radius_one_and_four():
    impulse = np.zeros((15, 15), np.float32)
    impulse[7, 7] = 1
    assert triangle_smooth(impulse, 1)[7, 6:9] == pytest.approx([0.125, 0.25, 0.125])
    wide = triangle_smooth(impulse, 4).sum(axis=0)
    assert wide[3:12] * 25 == pytest.approx([1, 2, 3, 4, 5, 4, 3, 2, 1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 3), (0, 5)])
def test_tiny_maps_stay_in_range(shape):
    nms = edge_nms(np.ones(shape))
    assert nms.shape == shape and ((nms >= 0) & (nms <= 1)).all()


def test_empty_map_stays_empty():
    assert not edge_nms(np.zeros((30, 30))).any()
    with pytest.raises(ValueError, match="H, W"):
        edge_nms(np.zeros((1, 3, 3)))
