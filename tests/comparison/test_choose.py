"""Which values of the search a network gets."""

import math

import pytest

from mtl_d2.comparison.choose import choose
from mtl_d2.comparison.rules import Metric

from .toy import toy_comparison

SEARCH = {"folds": 2, "values": {"SOLVER.BASE_LR": [0.1, 0.2]}}
METRICS = [
    Metric("sem_seg", "sem_seg/mIoU", reference="alone_sem_seg"),
    Metric("edge", "edge/error", higher_is_better=False, reference="alone_edge"),
]


@pytest.fixture
def chosen(tmp_path):
    """``{name: (learning rate, scores of the trials)}`` of figures by network, trial and fold."""

    def run(figures):
        with toy_comparison(tmp_path, search={**SEARCH, "held_out": 2}) as (comparison, _):
            choices = choose(comparison, METRICS, figures)
        return {name: (c.values["SOLVER.BASE_LR"], c.scores) for name, c in choices.items()}

    return run


def two_folds(name, trial, first, second):
    return {(name, trial, 0): first, (name, trial, 1): second}


REFERENCES = {
    # The second is better on the first fold, the first one in the mean.
    **two_folds("alone_sem_seg", 0, {"sem_seg": 50}, {"sem_seg": 60}),
    **two_folds("alone_sem_seg", 1, {"sem_seg": 54}, {"sem_seg": 40}),
    **two_folds("alone_edge", 0, {"edge": 0.5}, {"edge": 0.7}),
    **two_folds("alone_edge", 1, {"edge": 0.2}, {"edge": 0.6}),  # an error: lower is better
}


def test_the_mean_over_the_folds_decides_and_an_error_is_to_be_low(chosen):
    found = chosen(REFERENCES)
    assert found["alone_sem_seg"] == (0.1, [55, 47])
    assert found["alone_edge"] == (0.2, pytest.approx([-0.6, -0.4]))


def test_a_joint_network_is_held_against_the_references_best_means(chosen):
    both = {
        **two_folds("both", 0, {"sem_seg": 55, "edge": 0.4}, {"sem_seg": 55, "edge": 0.4}),
        **two_folds("both", 1, {"sem_seg": 66, "edge": 0.2}, {"sem_seg": 44, "edge": 0.4}),
    }
    rate, scores = chosen({**REFERENCES, **both})["both"]
    assert rate == 0.2 and scores == pytest.approx([0, (0 + 25) / 2])


def test_a_trial_that_lacks_a_fold_or_has_no_score_is_not_chosen(chosen):
    broken = {key: value for key, value in REFERENCES.items() if key != ("alone_sem_seg", 0, 1)}
    broken["alone_edge", 1, 0] = {"edge": math.nan}
    found = chosen(broken)
    assert found["alone_sem_seg"][0] == 0.2 and math.isnan(found["alone_sem_seg"][1][0])
    assert found["alone_edge"][0] == 0.1 and math.isnan(found["alone_edge"][1][1])


@pytest.mark.parametrize("first", [0, 1])
def test_a_fold_without_a_label_of_a_task_leaves_the_trial_without_a_score(chosen, first):
    both = two_folds("both", 0, {"sem_seg": 55, "edge": 0.4}, {"sem_seg": 55, "edge": 0.4})
    folds = [{"sem_seg": 99}, {"sem_seg": 99, "edge": 0.1}]
    both |= two_folds("both", 1, folds[first], folds[1 - first])
    rate, scores = chosen({**REFERENCES, **both})["both"]
    assert rate == 0.1 and math.isnan(scores[1])


def test_without_its_references_nothing_is_chosen_for_a_joint_network(chosen):
    both = two_folds("both", 0, {"sem_seg": 55, "edge": 0.4}, {"sem_seg": 55, "edge": 0.4})
    alone = {key: value for key, value in REFERENCES.items() if key[0] == "alone_sem_seg"}
    assert set(chosen({**alone, **both})) == {"alone_sem_seg"}
