from collections import Counter

import numpy as np
import pytest

from mtl_d2.data.mixing.stream import ImageStream, as_keys


def epochs(stream, count):
    return [stream.rows(epoch * stream.length, stream.length) for epoch in range(count)]


def test_without_factors_an_epoch_is_the_permutation_of_seed_and_epoch():
    stream = ImageStream(np.arange(9), seed=4)
    for epoch, rows in enumerate(epochs(stream, 3)):
        assert rows[:, 1].tolist() == np.random.default_rng((4, epoch)).permutation(9).tolist()
        assert (rows[:, 0] == epoch).all() and not rows[:, 2].any()


def test_images_come_as_often_as_their_factors_say():
    factors = np.array([0.25, 1.0, 1.5, 3.25, 0.5, 0.5])  # 7 images an epoch, 5 of them for sure
    stream = ImageStream(np.arange(10, 16), factors, seed=0)
    assert stream.length == 7
    counts = [Counter(rows[:, 1].tolist()) for rows in epochs(stream, 2000)]
    for i, factor in enumerate(factors):
        seen = [count[10 + i] for count in counts]
        assert set(seen) == {int(np.floor(factor)), int(np.ceil(factor))}
        assert np.mean(seen) == pytest.approx(factor, abs=0.05)


def test_a_sum_of_factors_that_is_no_whole_number_is_rounded_in_their_proportion():
    stream = ImageStream(np.arange(3), np.array([1.01, 1.8, 0.8]), seed=0)  # of the 1.61 beyond the whole parts, 2
    assert stream.length == 4
    counts = np.bincount(stream.rows(0, 4 * 2000)[:, 1]) / 2000
    assert counts == pytest.approx(np.array([1, 1, 0]) + np.array([0.01, 0.8, 0.8]) * 2 / 1.61, abs=0.03)


def test_the_repeats_of_an_image_are_numbered_so_that_no_two_keys_are_equal():
    stream = ImageStream(np.arange(3), np.array([1.0, 2.0, 3.0]), seed=1)
    keys = as_keys(stream.rows(0, 12))
    assert len(set(keys)) == 12
    assert sorted(key for key in keys if key[:2] == (0, 2)) == [(0, 2), (0, 2, 1), (0, 2, 2)]


def test_any_part_can_be_asked_for_at_any_time():
    factors = np.array([0.3, 1.7, 1.0, 2.4, 0.9])
    whole = ImageStream(np.arange(5), factors, seed=2).rows(0, 100)
    stream = ImageStream(np.arange(5), factors, seed=2)
    for start, count in ((90, 10), (0, 1), (13, 40), (7, 0), (50, 50)):
        assert np.array_equal(stream.rows(start, count), whole[start : start + count])


def test_branches_of_one_seed_differ():
    orders = [ImageStream(np.arange(50), seed=0, branch=branch).rows(0, 50)[:, 1] for branch in ((), (0,), (1,))]
    assert not any(np.array_equal(a, b) for a, b in (orders[:2], orders[1:], orders[::2]))


def test_few_thinned_images_still_come():
    stream = ImageStream(np.arange(3), np.full(3, 0.1), seed=0)
    assert stream.length == 1
    assert set(stream.rows(0, 100)[:, 1].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("factors", [[], [0.0, 0.0]])
def test_no_image_is_an_error(factors):
    with pytest.raises(ValueError, match="found no image"):
        ImageStream(np.arange(len(factors)), np.array(factors), seed=0)
