import numpy as np
import pycocotools.mask as mask_util
import pytest

from mtl_d2.data.annotation_geometry import mask_box, polygon_area, rle_counts


@pytest.mark.parametrize("seed", range(20))
def test_counts_and_boxes_of_rles_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 400, 2).tolist()
    mask = np.zeros((height, width), np.uint8)
    for _ in range(3):
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[y : y + rng.integers(1, 200), x : x + rng.integers(1, 200)] = 1
    if seed % 3 == 0:
        mask &= rng.integers(0, 2, mask.shape, np.uint8)
    rle = mask_util.encode(np.asfortranarray(mask))
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]]))
    expected = runs if flat[0] == 0 else np.concatenate([[0], runs])
    counts = rle_counts(rle)
    assert counts is not None and counts.tolist() == expected.tolist()
    assert rle_counts({"size": [height, width], "counts": counts.tolist()}).tolist() == expected.tolist()
    x, y, w, h = mask_util.toBbox(rle)
    box = mask_box(rle, (height, width))
    assert (box is None) == (not mask.any())
    if box is not None:
        ys, xs = np.nonzero(mask)
        spanning = bool((flat.reshape(width, height)[:-1, -1] & flat.reshape(width, height)[1:, 0]).any())
        assert box.tolist() == [x, y, x + w, y + h]
        assert spanning or box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize("counts", ["", "P", "ooooooooooo0", "~", "é", b"\xff", [1.5, 7], [4, 4, 1], None, 8])
def test_counts_that_make_up_no_image_are_none(counts):
    assert rle_counts({"size": [2, 4], "counts": counts}) is None


def test_boxes_of_polygons_are_those_of_their_vertices_within_the_image():
    assert polygon_area([0, 0, 4, 0, 4, 3]) == 6
    assert mask_box([[-5, 2, 4, 2, 4, 30], [6, 6, 8, 6, 8, 7]], (10, 20)).tolist() == [0, 2, 8, 10]
    assert mask_box([[1, 1, 5, 1, 9, 1]], (10, 20)) is None and mask_box([], (10, 20)) is None
    assert mask_box([[30, 30, 40, 30, 40, 40]], (10, 20)) is None
