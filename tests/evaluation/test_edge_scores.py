import numpy as np
import pytest
from skimage.morphology import thin

from mtl_d2.evaluation.edge_counts import edge_counts
from mtl_d2.evaluation.edge_matching import match_pixels
from mtl_d2.evaluation.edge_scores import best_of_each, edge_scores
from mtl_d2.structures import edge_nms

CRISP = {"nms": False, "thin": False}


def column(at: int, size: int = 24) -> np.ndarray:
    image = np.zeros((size, size), np.float32)
    image[:, at] = 1
    return image


def test_counts_equal_those_of_the_definition_followed_step_by_step():
    rng = np.random.default_rng(0)
    gt = rng.random((40, 50)) < 0.05
    prob = rng.random((40, 50)).astype(np.float32)
    ridges = np.round(edge_nms(prob) * 255) / 255
    radius = 0.03 * np.hypot(40, 50)
    for k, row in enumerate(edge_counts(prob, gt, max_dist=0.03), start=1):
        pred = thin(ridges >= k / 100 - 1e-9)
        matched_pred, matched_gt = match_pixels(pred, gt, radius)
        assert row.tolist() == [matched_pred.sum(), pred.sum(), matched_gt.sum(), gt.sum()]


def test_threshold_is_inclusive_on_the_eight_bit_value():
    prob = column(3) * np.float32(0.2)
    counts = edge_counts(prob, column(3), **CRISP)
    assert (counts[:20] == 24).all()
    assert (counts[20:] == [0, 0, 0, 24]).all()


def test_perfect_map_scores_one():
    scores = edge_scores(edge_counts(column(9), column(9), **CRISP)[None])
    assert scores.ODS == scores.OIS == 1
    assert (scores.precision == 1).all() and (scores.recall == 1).all()


def test_second_line_beside_the_edge_is_a_false_positive():
    counts = edge_counts(np.maximum(column(9), column(10)), column(9), max_dist=0.05, **CRISP)
    assert (counts == [24, 48, 24, 24]).all()


def test_ignored_pixels_excuse_what_is_unmatched_within_the_radius():
    gt, ignore = column(4), column(12) > 0
    prob = np.maximum.reduce([column(4), column(12), column(13), column(18)])
    # Radius 1.02: column 12 lies on ignored pixels, 13 beside them, 18 far off.
    assert (edge_counts(prob, gt, ignore, max_dist=0.03, **CRISP) == [24, 48, 24, 24]).all()
    # Without a place for the radius only column 12 is excused.
    assert (edge_counts(prob, gt, ignore, max_dist=0.01, **CRISP) == [24, 72, 24, 24]).all()


def test_true_pixel_goes_to_the_prediction_that_is_not_excused():
    gt, ignore = column(4), column(2) > 0
    prob = np.maximum(column(3), column(5))
    # Both columns may match 4; 3 is beside ignored pixels, so 5 takes it and 3 is left out.
    assert (edge_counts(prob, gt, ignore, max_dist=0.03, **CRISP) == [24, 24, 24, 24]).all()


def test_counts_with_ignored_pixels_do_not_depend_on_the_other_thresholds():
    rng = np.random.default_rng(1)
    prob, gt, ignore = rng.random((30, 30)), rng.random((30, 30)) < 0.1, rng.random((30, 30)) < 0.02
    together = edge_counts(prob, gt, ignore, max_dist=0.05, **CRISP)
    for k in (20, 60, 90):
        alone = edge_counts((prob >= (np.ceil(2.55 * k) - 0.5) / 255) * 1.0, gt, ignore, max_dist=0.05, **CRISP)
        assert (alone[0] == together[k - 1]).all()


def test_prediction_counts_once_and_recall_sums_over_annotators():
    counts = edge_counts(column(9), [column(9), column(10), column(20)], max_dist=0.03, **CRISP)
    assert (counts == [24, 24, 48, 72]).all()


def test_nothing_predicted_or_nothing_there():
    empty = np.zeros((24, 24), np.float32)
    assert (edge_counts(empty, column(3)) == [0, 0, 0, 24]).all()
    assert (edge_counts(column(3), empty, **CRISP) == [0, 24, 0, 0]).all()
    assert not edge_counts(empty, empty).any()
    scores = edge_scores(edge_counts(empty, empty)[None])
    assert scores.ODS == scores.OIS == scores.AP == 0


def test_scores_by_hand():
    # One image: P, R = (.5, 1), (1, .5); between them P + R stays 1.5 and F is best halfway, at .75.
    counts = np.array([[[10, 20, 10, 10], [5, 5, 5, 10]]])
    scores = edge_scores(counts)
    assert pytest.approx(0.75, abs=1e-4) == scores.ODS
    assert scores.ods_threshold == pytest.approx(0.5, abs=0.002)
    assert pytest.approx(2 / 3) == scores.OIS
    # Precision falls linearly from 1 at recall .5 to .5 at recall 1: 51 points of mean .75.
    assert pytest.approx(51 * 0.75 / 100) == scores.AP


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0.25, 0.9), (0.75, 0.3)], 0.6),  # halfway between the two
        ([(0.75, 0.3), (0.6, 0.8)], 0.8),  # all are above: the recall of the lowest precision
        ([(0.4, 0.9), (0.3, 0.95)], 0),  # none reaches it
        ([(0.5, 0.4), (0.5, 0.7), (1, 0.1)], 0.7),  # of one precision the greatest recall
        ([(0.75, 0.3), (0.6, 0.8), None], 0.8),  # a threshold that no pixel passes is no point
        ([None, None], 0),
    ],
)
def test_r50_by_hand(points, expected):
    rows = [[0, 0, 0, 100] if p is None else [100 * p[0], 100, 100 * p[1], 100] for p in points]
    assert pytest.approx(expected) == edge_scores(np.array([rows]).round().astype(int)).R50


def test_ois_takes_each_image_at_its_own_threshold():
    first, second = [[10, 10, 10, 10], [0, 0, 0, 10]], [[10, 40, 10, 10], [10, 10, 10, 10]]
    scores = edge_scores(np.array([first, second]))
    assert scores.OIS == 1
    assert scores.ODS < 1


def test_an_image_without_a_true_edge_is_taken_where_least_is_wrong():
    perfect = [[10, 10, 10, 10]] * 3
    empty = [[0, 1000, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    missed = [[0, 50, 0, 10], [0, 7, 0, 10], [0, 7, 0, 10]]
    assert edge_scores(np.array([perfect, empty])).OIS == 1
    best, index = best_of_each(np.array([perfect, empty, missed]))
    assert best.tolist() == [1, 0, 0] and index.tolist() == [0, 2, 2]


def test_no_image_has_no_score():
    scores = edge_scores(np.zeros((0, 99, 4), int))
    assert np.isnan([scores.ODS, scores.OIS, scores.AP, scores.R50, scores.ods_threshold]).all()


@pytest.mark.parametrize(
    ("prob", "message"),
    [
        (np.full((24, 24), np.nan), "NaN"),
        (np.full((24, 24), 1.5), r"1\.5"),
        (np.full((24, 24), -1.0), "-1"),
        (np.zeros((24, 23)), r"\(24, 23\)"),
        (np.zeros((24, 24), np.uint8), "uint8"),
    ],
)
def test_bad_maps_are_refused(prob, message):
    with pytest.raises(ValueError, match=message):
        edge_counts(prob, column(3))
