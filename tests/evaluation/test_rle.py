import numpy as np
import pycocotools.mask as mask_util
import pytest

from mtl_d2.evaluation.rle import encode_box_mask, encode_mask, paint_mask, to_rle
from mtl_d2.structures import BoxMask


def _cases():
    rng = np.random.default_rng(0)
    shape = (11, 13)
    yield "random", rng.random(shape) > 0.5
    yield "empty", np.zeros(shape, bool)
    yield "full", np.ones(shape, bool)
    yield "full_columns", np.tile(np.arange(13) % 5 > 1, (11, 1))
    yield "last_pixel", np.arange(143).reshape(shape) == 142
    yield "first_pixel", np.arange(143).reshape(shape) == 0
    sparse = np.zeros(shape, bool)
    sparse[3:6, 4:9] = sparse[8, 12] = True
    yield "box", sparse


@pytest.mark.parametrize("mask", [pytest.param(mask, id=name) for name, mask in _cases()])
def test_encode_mask_equals_pycocotools(mask):
    expected = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_mask(mask) == expected
    assert encode_box_mask(BoxMask(0, 0, mask), mask.shape) == expected


def test_to_rle_reads_polygons_uncompressed_and_compressed():
    polygon = [[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]
    compressed = to_rle(polygon, 8, 9)
    mask = mask_util.decode(compressed).astype(bool)
    assert mask.sum() == 12
    counts = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=False)), prepend=0, append=72)
    uncompressed = to_rle({"counts": counts.tolist(), "size": [8, 9]}, 8, 9)
    assert (mask_util.decode(uncompressed) == mask).all()
    assert to_rle(compressed, 8, 9) is compressed
    assert mask_util.area(to_rle([], 8, 9)) == 0


def test_paint_mask_writes_the_masks_pixels_and_no_others():
    for name, mask in _cases():
        canvas = np.full(mask.shape, 7)
        paint_mask(canvas, encode_mask(mask), 9)
        assert (canvas == np.where(mask, 9, 7)).all(), name
