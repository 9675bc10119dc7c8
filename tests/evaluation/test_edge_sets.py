"""Edge maps of a set of images as arrays: figures, and one sentence for what cannot be scored."""

import numpy as np
import pytest

from mtl_d2.evaluation import EdgeOptions, score_edges
from mtl_d2.evaluation.edge_counts import edge_counts
from mtl_d2.evaluation.edge_scores import edge_scores

SIZE = (24, 30)
CRISP = EdgeOptions(nms=False, thin=False)


def column(at: int) -> np.ndarray:
    image = np.zeros(SIZE, np.float32)
    image[:, at] = 1
    return image


def noisy(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.6 * column(9 + seed) + 0.4 * rng.random(SIZE)).astype(np.float32)


def test_figures_are_those_of_the_counts_and_processes_change_nothing():
    probs, gts = [noisy(seed) for seed in range(5)], [column(9)] * 5
    counts = np.array([edge_counts(prob, gt) for prob, gt in zip(probs, gts, strict=True)])
    expected = edge_scores(counts)
    here, elsewhere = (score_edges(iter(probs), gts, jobs=jobs) for jobs in (0, 2))
    assert here.names == elsewhere.names == tuple(f"image {i}" for i in range(5))
    assert (here.counts["benchmark"] == counts).all()
    assert all((here.counts[kind] == elsewhere.counts[kind]).all() for kind in here.counts)
    assert here.metrics() == elsewhere.metrics()
    assert {key: here.metrics()[key] for key in ("ODS", "AP", "R50")} == {
        "ODS": expected.ODS,
        "AP": expected.AP,
        "R50": expected.R50,
    }


def test_half_tolerance_and_crisp_scores_are_those_of_their_options():
    probs, gts = [noisy(1), noisy(2)], [column(9)] * 2
    options = EdgeOptions(max_dist=0.06)
    metrics = score_edges(probs, gts, options=options, jobs=0).metrics()
    half = score_edges(probs, gts, options=EdgeOptions(max_dist=0.03), jobs=0).metrics()
    crisp = score_edges(probs, gts, options=EdgeOptions(max_dist=0.06, nms=False, thin=False), jobs=0).metrics()
    assert metrics["ODS_half"] == half["ODS"] < metrics["ODS"]
    assert metrics["ODS_crisp"] == crisp["ODS"] == crisp["ODS_crisp"] != metrics["ODS"]
    plain = EdgeOptions(half_tolerance=False, crisp=False)
    assert set(score_edges(probs, gts, options=plain, jobs=0).metrics()) == {"ODS", "OIS", "AP", "R50", "ODS_threshold"}


def test_several_annotators_and_ignored_pixels_reach_the_counts():
    ignore = column(20) > 0
    prob = np.maximum(column(9), column(20))
    scored = score_edges([prob], [[column(9), column(14)]], ignore=[ignore], options=CRISP, jobs=0)
    assert (scored.counts["benchmark"][0] == [24, 24, 24, 48]).all()
    assert score_edges([prob], [column(9)], ignore=[None], options=CRISP, jobs=0).scores.precision[0] == 0.5


def test_image_without_an_edge_is_named_and_what_is_predicted_there_is_wrong():
    scored = score_edges([column(9), column(4)], [column(9), column(4) * 0], names=["a", "b"], options=CRISP, jobs=0)
    assert scored.without_edges == ("b",)
    assert (scored.scores.precision == 0.5).all() and (scored.scores.recall == 1).all()
    assert scored.per_image() == [
        {"name": "a", "F": 1.0, "threshold": 0.01},
        {"name": "b", "F": 0.0, "threshold": 0.99},  # what is wrong at all of them is the same: the last
    ]


def test_nothing_predicted_is_told():
    assert score_edges([column(9) / 255], [column(9)], jobs=0).predicts_nothing
    assert not score_edges([column(9)], [column(9)], jobs=0).predicts_nothing


def test_random_bright_and_empty_maps_are_not_taken_for_inverted():
    rng = np.random.default_rng(0)
    gt = column(9) > 0
    for prob in (rng.random(SIZE), np.full(SIZE, 0.9), 0.55 + 0.1 * rng.random(SIZE), np.zeros(SIZE)):
        score_edges([prob], [gt], jobs=0)


NAN = column(9)
NAN[3, 4] = np.nan


@pytest.mark.parametrize(
    ("prob", "gt", "message"),
    [
        (np.zeros((24, 29)), column(9), r"edge map of x\.png .* size .*\(24, 30\), found \(24, 29\)"),
        (1 - column(9), column(9), r"edge map of x\.png looks inverted"),
        (1 - 0.5 * column(11), [column(9), column(9)], r"x\.png looks inverted"),
        (1 - 0.3 * column(9), [column(9), column(9)], r"x\.png looks inverted"),
        (255 * column(9), column(9), r"edge map of x\.png .* 0 to 255: divide by 255"),
        (NAN, column(9), r"edge map of x\.png .* NaN at 1 of 720 pixels"),
        (20 * column(9) - 10, column(9), r"edge map of x\.png .* -10 to 10: .* not logits"),
        (column(9).astype(np.uint8), column(9), r"edge map of x\.png .* uint8"),
        (column(9), [], r"ground truth of x\.png has no annotator"),
        (column(9), [column(9), column(9)[1:]], r"ground truth of x\.png .*\(23, 30\)"),
        (column(9), NAN, r"ground truth of x\.png .* NaN"),
    ],
)
def test_what_cannot_be_scored_is_named(prob, gt, message):
    with pytest.raises(ValueError, match=message):
        score_edges([prob], [gt], names=["x.png"], jobs=0)


@pytest.mark.parametrize("jobs", [0, 1])
def test_set_that_does_not_fit_together_is_named(jobs):
    for probs, gts, options, message in [
        ([], [], {}, "no image"),
        ([column(9)], [column(9)] * 2, {}, "predictions has 1 images and ground_truths has more"),
        ([column(9)] * 2, [column(9)], {}, "ground_truths has 1 images and predictions has more"),
        ([column(9)], [column(9)], {"ignore": []}, "ignore has 0 images"),
        ([column(9)] * 2, [column(9)] * 2, {"names": ["a"]}, "names has 1"),
        ([column(9)] * 2, [column(9)] * 2, {"names": ["a", "a"]}, "name a"),
        ([column(9)], [column(9)], {"ignore": [column(9)]}, "ignored pixels of image 0 .* booleans"),
    ]:
        with pytest.raises(ValueError, match=message):
            score_edges(probs, gts, jobs=jobs, **options)


@pytest.mark.parametrize("max_dist", [0, -0.1, 1, 3, np.nan])
def test_tolerance_is_a_fraction_above_0(max_dist):
    with pytest.raises(ValueError, match=f"max_dist .* found {max_dist}: the benchmark's is 0.0075"):
        EdgeOptions(max_dist=max_dist)


def test_at_least_one_threshold():
    with pytest.raises(ValueError, match="thresholds .* found 0"):
        EdgeOptions(thresholds=0)
