import numpy as np
import pytest
from scipy.stats import norm

from mtl_d2.structures import canny_edges, sobel_edges


def steps(height: int, width: int) -> np.ndarray:
    """Grey 0, 20 and 200 from left to right, in thirds."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 3 :] = 20
    image[:, 2 * width // 3 :] = 200
    return image


def test_sobel_of_a_step_is_its_height_over_the_contrast():
    image = steps(6, 12)
    edges = sobel_edges(image)
    assert edges[:, [3, 4]] == pytest.approx(np.full((6, 2), 20 / 200))
    assert edges[:, [7, 8]] == pytest.approx(np.full((6, 2), 180 / 200))
    assert not edges[:, [0, 1, 2, 5, 6, 9, 10, 11]].any()
    assert (sobel_edges(image[..., 0].T) == edges.T).all()
    assert sobel_edges(image // 2) == pytest.approx(edges)
    assert not sobel_edges(np.full((4, 4), 9, np.uint8)).any()
    with pytest.raises(ValueError, match="uint8"):
        sobel_edges(image.astype(float))


# Central difference, half a pixel beside a step that a Gaussian of two pixels has smoothed, for a step of height 1.
SMOOTHED = norm.cdf(1.5 / 2) - norm.cdf(-0.5 / 2)


def test_sobel_of_a_smoothed_step_is_lower_and_wider():
    sharp, smooth = (sobel_edges(steps(40, 90), sigma)[20, 55:66] for sigma in (0.0, 2.0))
    assert (sharp > 0.01).sum() == 2 and (smooth > 0.01).sum() > 6
    assert smooth[[4, 5]] == pytest.approx([0.9 * SMOOTHED] * 2, rel=0.02)


def test_canny_of_a_step_is_one_pixel_at_its_own_height():
    edges = canny_edges(steps(40, 90))
    row = edges[20]
    assert set(np.flatnonzero(row)) <= {29, 30, 59, 60} and np.count_nonzero(row) == 2
    assert sorted(row[row > 0]) == pytest.approx([0.1 * SMOOTHED, 0.9 * SMOOTHED], abs=0.01)
    assert canny_edges(steps(40, 90)[..., 0]) == pytest.approx(edges)
    assert edges.dtype == np.float32 and not canny_edges(np.full((9, 7), 5, np.uint8)).any()


@pytest.mark.parametrize("gap", [0, 14])
def test_canny_lets_a_weak_edge_stay_where_a_strong_one_goes_on(gap):
    image = np.zeros((80, 60), np.uint8)
    image[:40, 30:] = 200
    image[40 + gap :, 30:] = 120  # 0.6 of the height: above the lower threshold, below the upper
    columns = canny_edges(image, sigma=1.0)[:, 25:35].max(axis=1)
    expected = 1.0 if gap == 0 else 0.6
    assert columns[70] / columns[10] == pytest.approx(expected, abs=0.03)


def test_canny_and_sobel_refuse_what_is_no_image():
    with pytest.raises(ValueError, match="sigma must be 0 or a width in pixels, found -1"):
        canny_edges(np.zeros((4, 4), np.uint8), sigma=-1)
    with pytest.raises(ValueError, match="uint8 image, found float64"):
        canny_edges(np.zeros((4, 4)))
