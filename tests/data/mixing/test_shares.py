import numpy as np
import pytest

from mtl_d2.data.mixing.shares import apportion, rake, shares_with_minimum

NO_TASK = np.zeros((3, 0), bool), np.zeros(0)


def test_without_margins_the_shares_are_the_natural_ones():
    assert rake(np.array([1.0, 2, 5]), []).tolist() == [0.125, 0.25, 0.625]


def test_a_margin_scales_its_parts_and_keeps_the_proportions_within():
    shares = rake(np.array([1.0, 3, 4]), [(np.array([0, 0, 1]), np.array([0.8, 0.2]))])
    assert shares == pytest.approx([0.2, 0.6, 0.2])


def test_two_margins_hold_at_once_and_the_odds_ratio_stays():
    natural = np.array([[40.0, 30], [10, 20]])  # dataset by label, the odds ratio is 40 * 20 / (30 * 10)
    margins = [
        (np.array([0, 0, 1, 1]), np.array([0.3, 0.7])),
        (np.array([0, 1, 0, 1]), np.array([0.4, 0.6])),
    ]
    shares = rake(natural.ravel(), margins).reshape(2, 2)
    assert shares.sum(axis=1) == pytest.approx([0.3, 0.7], abs=1e-5)
    assert shares.sum(axis=0) == pytest.approx([0.4, 0.6], abs=1e-5)
    assert shares[0, 0] * shares[1, 1] / (shares[0, 1] * shares[1, 0]) == pytest.approx(8 / 3)


def test_margins_that_contradict_each_other_are_an_error():
    same = np.array([0, 1])
    with pytest.raises(ValueError, match="contradict"):
        rake(np.ones(2), [(same, np.array([0.5, 0.5])), (same, np.array([0.2, 0.8]))])
    with pytest.raises(ValueError, match="contradict"):  # no image has the label
        rake(np.ones(2), [(np.array([0, 0]), np.array([0.5, 0.5]))])


def test_a_minimum_raises_what_is_below_it_and_leaves_the_rest():
    carriers = np.array([[True, False], [True, False], [True, True]])
    natural = np.array([500.0, 495, 5])
    assert shares_with_minimum(natural, [], carriers, np.array([0.5, 0.001])) == pytest.approx(natural / 1000)
    raised = shares_with_minimum(natural, [], carriers, np.array([0.5, 0.1]))
    assert raised == pytest.approx([0.9 * 500 / 995, 0.9 * 495 / 995, 0.1])
    with pytest.raises(ValueError, match=r"found \[0.5, 1.5\]"):
        shares_with_minimum(natural, [], carriers, np.array([0.5, 1.5]))


def test_raising_one_task_may_make_another_one_short():
    carriers = np.array([[True, False], [False, True]])
    assert shares_with_minimum(np.array([998.0, 2]), [], carriers, np.array([0.5, 0.5])) == pytest.approx([0.5, 0.5])


def test_apportioned_numbers_are_within_one_of_the_shares():
    assert apportion(np.array([0.5, 0.3, 0.2]), 10, *NO_TASK).tolist() == [5, 3, 2]
    assert apportion(np.array([0.48, 0.34, 0.18]), 10, *NO_TASK).tolist() == [5, 3, 2]
    assert apportion(np.array([0.9997, 0.0002, 0.0001]), 100, *NO_TASK).tolist() == [98, 1, 1]
    assert apportion(np.array([0.6, 0.4, 0.0]), 7, *NO_TASK).tolist() == [4, 3, 0]


def test_apportioned_numbers_give_every_task_what_it_needs():
    carriers = np.array([[False, True], [True, False], [True, False]])
    shares = np.array([0.6, 0.26, 0.14])
    assert apportion(shares, 10, carriers, np.array([4, 5])).tolist() == [6, 3, 1]
    assert apportion(shares, 10, carriers, np.array([5, 5])).tolist() == [5, 4, 1]
    with pytest.raises(ValueError, match="found 10, too few"):
        apportion(shares, 10, carriers, np.array([5, 6]))
