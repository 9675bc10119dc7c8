"""Intervals of data whose interval is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from mtl_d2.comparison.bootstrap import Draws, draw, drawn_changes, drawn_figures, intervals, percentile_interval
from mtl_d2.comparison.rules import Metric
from mtl_d2.evaluation.per_image import PerImage

HIGHER, LOWER = Metric("instance", "segm/AP"), Metric("depth", "depth/rmse", higher_is_better=False)


@dataclass(frozen=True)
class Mean(PerImage):
    """The mean of one value per image."""

    values: np.ndarray
    metric = "toy/mean"

    def figures(self, repeats):
        return repeats @ self.values / repeats.sum(axis=1)

    def arrays(self):
        return {"values": self.values}


def _runs(rng, seeds=3, images=40, shift=0.0, scale=1.0):
    names = tuple(f"{i}.png" for i in range(images))
    return [Mean(names, scale * rng.uniform(1, 2, images) + shift) for _ in range(seeds)], names


def test_identical_runs_give_zero_and_an_interval_of_no_width():
    runs, names = _runs(np.random.default_rng(0))
    figures = drawn_figures(runs, names, draw(40, 3))
    found = intervals({"instance": figures}, {"instance": figures}, [HIGHER])
    assert found == {"instance": percentile_interval(np.zeros(2)), "delta_m": percentile_interval(np.zeros(2))}
    assert found["delta_m"].low == found["delta_m"].high == 0


@pytest.mark.parametrize(("metric", "expected"), [(HIGHER, 10.0), (LOWER, -10.0)])
def test_a_network_that_is_a_tenth_higher_on_every_image_is_so_in_every_draw(metric, expected):
    """Paired: the same images and seeds are drawn for both, else the interval would be wide."""
    runs, names = _runs(np.random.default_rng(0))
    better = [Mean(names, 1.1 * run.values) for run in runs]
    draws = draw(40, 3)
    values = {metric.task: drawn_figures(better, names, draws)}
    references = {metric.task: drawn_figures(runs, names, draws)}
    interval = intervals(values, references, [metric])["delta_m"]
    assert interval.low == pytest.approx(expected) and interval.high == pytest.approx(expected)


def test_the_interval_over_images_of_one_run_is_that_of_a_mean():
    """Of n normal values with deviation s, the mean's interval is 2 * 1.96 * s / sqrt(n) wide."""
    rng = np.random.default_rng(0)
    names = tuple(f"{i}.png" for i in range(400))
    values = rng.normal(10, 2, 400)
    figures = drawn_figures([Mean(names, values)], names, draw(400, 1, 4000))
    interval = percentile_interval(figures)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)
    assert (interval.low + interval.high) / 2 == pytest.approx(values.mean(), abs=0.02)


def test_seeds_are_drawn_too():
    """Runs that are constant over the images, 1 and 3: a draw of two seeds gives 1, 2 or 3."""
    names = ("a.png", "b.png")
    runs = [Mean(names, np.full(2, value)) for value in (1.0, 3.0)]
    figures = drawn_figures(runs, names, draw(2, 2, 2000))
    values, counts = np.unique(figures.round(9), return_counts=True)
    assert values.tolist() == [1, 2, 3] and counts / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.04)


def test_images_are_matched_by_name_and_a_task_may_have_fewer():
    run = Mean(("b.png", "a.png"), np.array([1.0, 5.0]))
    draws = Draws(images=np.array([[3, 1, 9], [0, 2, 1]]), seeds=np.zeros((2, 1), int))
    assert drawn_figures([run], ["a.png", "b.png", "c.png"], draws).tolist() == [4.0, 1.0]


def test_without_statistics_of_a_task_there_is_no_interval_of_delta_m():
    found = intervals({"instance": np.ones(9)}, {"instance": np.ones(9), "depth": np.ones(9)}, [HIGHER, LOWER])
    assert found["instance"] is not None and found["delta_m"] is None and "depth" not in found


def test_a_figure_that_is_undefined_in_a_draw_has_no_interval():
    assert percentile_interval(drawn_changes(np.ones(3), np.array([1.0, 0.0, 1.0]), True)) is None


def test_draws_hold_as_many_as_there_are_and_the_same_seed_the_same():
    draws = draw(7, 3, 50)
    assert (draws.images.sum(axis=1) == 7).all() and draws.seeds.shape == (50, 3) and draws.seeds.max() == 2
    np.testing.assert_array_equal(draws.images, draw(7, 3, 50).images)
