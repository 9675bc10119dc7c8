"""delta_m by hand, when a reference is trained, and when a balancer is better than fixed weights."""

import math

import pytest

from mtl_d2.comparison.rules import Metric, delta_m, held_against_grid, is_trained, moved_percent, relative_change

AP, RMSE = Metric("instance", "segm/AP"), Metric("depth", "depth/rmse", higher_is_better=False)


def test_delta_m_by_hand_with_both_signs():
    """AP 50 -> 55 is +10 %; an error 0.2 -> 0.19 is +5 %, 0.2 -> 0.26 is -30 %."""
    references = {"instance": 50.0, "depth": 0.2}
    assert delta_m({"instance": 55.0, "depth": 0.19}, references, [AP, RMSE]) == pytest.approx(7.5)
    assert delta_m({"instance": 55.0, "depth": 0.26}, references, [AP, RMSE]) == pytest.approx(-10)
    assert delta_m({"instance": 55.0, "depth": 0.26}, references, [AP]) == pytest.approx(10)
    assert relative_change(45.0, 50.0) == pytest.approx(-10)
    assert delta_m(references, references, [AP, RMSE]) == 0


def test_a_change_of_nothing_is_undefined():
    assert math.isnan(relative_change(1.0, 0.0))
    assert math.isnan(delta_m({"instance": 1.0, "depth": 1.0}, {"instance": 0.0, "depth": 1.0}, [AP, RMSE]))


@pytest.mark.parametrize(
    ("reference", "longer", "trained"),
    [(50.0, 50.9, True), (50.0, 49.1, True), (50.0, 51.1, False), (50.0, 48.9, False), (0.0, 0.0, False)],
)
def test_a_reference_is_trained_where_a_third_more_steps_move_it_by_less_than_two_percent(reference, longer, trained):
    assert is_trained(reference, longer) is trained


def test_a_figure_that_is_undefined_does_not_count_as_trained():
    assert not is_trained(math.nan, 50.0) and not is_trained(50.0, math.nan)
    assert moved_percent(50.0, 51.0) == pytest.approx(2.0)


# Means 1.0 and 2.0; each point has the variance 0.02, so the deviation is 0.1414 and two of them 0.2828.
GRID = {"low": [0.9, 1.1], "high": [1.9, 2.1]}


@pytest.mark.parametrize(
    ("deltas", "better"), [([2.2, 2.4], True), ([2.2, 2.35], False), ([0.0, 1.0], False), ([9.0], True)]
)
def test_better_than_the_grid_is_more_than_two_deviations_above_its_best(deltas, better):
    verdict = held_against_grid(deltas, GRID, 100, [100, 100])
    assert verdict.best == "high" and verdict.deviation == pytest.approx(math.sqrt(0.02))
    assert verdict.better is better and verdict.margin == pytest.approx(sum(deltas) / len(deltas) - 2)


def test_nothing_is_said_of_one_seed_or_of_unequal_cost():
    one_seed = held_against_grid([9.0], {"low": [1.0], "high": [2.0]}, 100, [100, 100])
    assert one_seed.better is None and one_seed.deviation is None and "one seed" in one_seed.why
    unequal = held_against_grid([9.0, 9.0], GRID, 200, [100, 100])
    assert unequal.better is None and "number of images" in unequal.why
