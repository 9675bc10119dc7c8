import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from mtl_d2.evaluation.edge_matching import FREE, Matching, build_graph, disk_offsets, match_pixels


def line(*positions: int, length: int = 12) -> np.ndarray:
    row = np.zeros((1, length), bool)
    row[0, list(positions)] = True
    return row


def maximum_pairs(pred: np.ndarray, gt: np.ndarray, radius: float) -> int:
    distance = cdist(np.argwhere(pred), np.argwhere(gt), "sqeuclidean")
    return int((maximum_bipartite_matching(csr_matrix(distance <= radius**2)) >= 0).sum())


def test_as_many_pairs_as_scipy_finds_in_1000_graphs():
    rng = np.random.default_rng(0)
    for case in range(1000):
        shape = rng.integers(1, 14, 2)
        pred, gt = (rng.random(shape) < rng.choice([0.05, 0.2, 0.5]) for _ in range(2))
        radius = (0, 1, 1.5, 2, 3.2)[case % 5]
        matched_pred, matched_gt = match_pixels(pred, gt, radius)
        assert matched_pred.sum() == matched_gt.sum() == maximum_pairs(pred, gt, radius)
        assert not (matched_pred & ~pred).any() and not (matched_gt & ~gt).any()


def test_greedy_alone_would_lose_a_pair():
    # Nearest first takes (2, 3), after which 5 is out of reach of 3 and 2 of 0: an augmenting path repairs
    # it.
    pred, gt = line(2, 5), line(0, 3)
    greedy = Matching(build_graph(np.flatnonzero(pred), np.flatnonzero(gt), pred.shape, 2))
    greedy._take_nearest(np.arange(2))
    assert (greedy.of_pred != FREE).sum() == 1
    matched_pred, matched_gt = match_pixels(pred, gt, 2)
    assert (matched_pred == pred).all() and (matched_gt == gt).all()


def test_long_chain_is_shifted_as_a_whole():
    # Each prediction sits on a true pixel, but only a shift by one lets the first prediction and the last
    # pixel in.
    pred, gt = line(*range(0, 200), length=201), line(*range(1, 201), length=201)
    assert match_pixels(pred, gt, 1)[0].sum() == 200


def test_one_true_pixel_matches_one_prediction():
    matched_pred, matched_gt = match_pixels(line(1, 2, 3), line(2), 1)
    assert matched_pred.sum() == 1 and matched_pred[0, 2] and matched_gt.sum() == 1


def test_radius_is_inclusive_and_euclidean():
    pred, gt = np.zeros((2, 5, 5), bool)
    pred[0, 0] = gt[3, 4] = True
    assert match_pixels(pred, gt, 5)[0].any()
    assert not match_pixels(pred, gt, 4.99)[0].any()


def test_radius_zero_matches_the_same_pixel_only():
    assert match_pixels(line(1, 2, 3), line(3, 4), 0)[0].nonzero()[1].tolist() == [3]


def test_offsets_come_nearest_first():
    assert len(disk_offsets(2)) == 13
    assert (np.diff((disk_offsets(7.5) ** 2).sum(axis=1)) >= 0).all()


@pytest.mark.parametrize("pred, gt", [(line(), line(1)), (line(1), line()), (line(), line())])
def test_empty_maps_match_nothing(pred, gt):
    assert not any(matched.any() for matched in match_pixels(pred, gt, 3))


def test_wrong_arguments_are_named():
    for radius in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="radius"):
            match_pixels(line(1), line(1), radius)
    with pytest.raises(ValueError, match="one size"):
        match_pixels(line(1), line(1, length=5), 1)
