import numpy as np
import pycocotools.mask as mask_util
import pytest

from mtl_d2.structures.box_masks import draw_masks
from mtl_d2.structures.run_lengths import decode_rle


def random_frames():
    """Noise, blobs, stripes over whole columns, one pixel, all pixels and none, in odd sizes."""
    rng = np.random.default_rng(0)
    for size in [(1, 1), (1, 7), (7, 1), (13, 17), (61, 83), (200, 3)]:
        y, x = np.mgrid[: size[0], : size[1]]
        yield np.zeros(size, bool)
        yield np.ones(size, bool)
        yield x % 3 == 1
        yield y % 4 == 2
        for density in (0.02, 0.5, 0.98):
            yield rng.random(size) < density
        for _ in range(30):
            (cy, cx), radius = rng.uniform(0, 1, 2) * size, rng.uniform(0.5, max(size))
            yield (y - cy) ** 2 + (x - cx) ** 2 <= radius**2


def test_a_box_holds_the_pixels_that_pycocotools_decodes_and_is_tight():
    count = 0
    for frame in random_frames():
        rle = mask_util.encode(np.asfortranarray(frame.astype(np.uint8)))
        mask = decode_rle(rle)
        assert np.array_equal(draw_masks([mask], frame.shape)[0], frame)
        assert [mask.left, mask.top, *mask.pixels.shape[::-1]] == mask_util.toBbox(rle).tolist()
        assert np.array_equal(decode_rle({**rle, "counts": rle["counts"].decode()}).pixels, mask.pixels)
        count += 1
    assert count == 6 * 37


@pytest.mark.parametrize("counts", [[0, 6], [3, 0, 3], [1, 2, 0, 1, 2], [2, 1, 3, 0], [0, 2, 4], [6]])
def test_runs_of_no_length_and_any_end(counts):
    rle = mask_util.frPyObjects({"counts": counts, "size": [2, 3]}, 2, 3)
    assert np.array_equal(draw_masks([decode_rle(rle)], (2, 3))[0], mask_util.decode(rle).astype(bool))


def test_large_numbers_have_several_groups():
    size = (5000, 4001)
    frame = np.zeros(size, np.uint8)
    frame[4990:, 4000] = frame[3:5, 2] = 1
    mask = decode_rle(mask_util.encode(np.asfortranarray(frame)))
    assert (mask.top, mask.left, mask.pixels.shape, mask.area) == (3, 2, (4997, 3999), 12)
