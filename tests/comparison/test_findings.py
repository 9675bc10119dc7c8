"""From finished runs to the record, the table, the sentences and the plots."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from mtl_d2.comparison import Campaign, new_findings, render_comparison, render_comparisons
from mtl_d2.comparison.costs import Cost
from mtl_d2.comparison.page import load_comparisons, mean_sd
from mtl_d2.comparison.plots import draw_comparison
from mtl_d2.comparison.sentences import sentences
from mtl_d2.engine.record import write_json
from mtl_d2.evaluation.per_image import Confusions, EdgeCounts

from .toy import toy_comparison

CHANGES = {
    "joint": {"both": {"MODEL.MTL.TASKS": ["sem_seg", "edge"], "SOLVER.BASE_LR": 0.2}},
    "grid": {"low": {"MODEL.MTL.TASKS": ["sem_seg", "edge"], "SOLVER.BASE_LR": 0.15}},
    "balancers": ["both"],
    "note": "All labels come from one annotation.",
}


def _keep_images(runs, run, seed):
    """What evaluators would have left: of four images, each run alike but for the share of right pixels."""
    folder = runs.place(run) / "inference" / run.test_sets[0]
    names = tuple(f"{i}.png" for i in range(4))
    right = 40 + seed + np.arange(4)
    Confusions(names, np.array([[[r, 5], [5, 50]] for r in right])).write(folder, "sem_seg")
    EdgeCounts(names, np.array([[[r, 60, r, 60]] for r in right])).write(folder, "edge")


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    with toy_comparison(folder, **CHANGES) as (comparison, runs):
        found = Campaign(comparison, runs).carry_out()
        for (_, seed), run in found.final.items():
            _keep_images(runs, run, seed)
        cost = Cost(parameters=100, flops=2e9, uncounted={"aten::pad": 1.0}, milliseconds=5.0)
        found.costs.update({candidate.name: cost for candidate in comparison.candidates})
        write_json(folder / "toy.json", new_findings(found, ["tools/compare_runs.py", "toy.yaml"], draws=50))
    (loaded,) = load_comparisons(folder).values()
    return loaded


def test_each_task_stands_beside_its_reference(record):
    """Scores of the toy trainer: 50 + seed + 10 x rate, and 0.5 + seed / 100 - rate / 10; references have rate 0.1."""
    both = record["networks"]["both"]
    assert both["val"]["sem_seg"] == [53, 54] and both["val"]["edge"] == pytest.approx([0.49, 0.50])
    assert both["change"]["sem_seg"] == pytest.approx(100 / 52.5) and both["change"]["edge"] == pytest.approx(
        -1 / 0.505
    )
    assert both["delta_m"] == pytest.approx((100 / 52.5 - 1 / 0.505) / 2)
    assert np.mean(both["delta_m_of_seeds"]) == pytest.approx(both["delta_m"])
    assert record["sum"]["parameters"] == 200 and record["sum"]["train_seconds"] == 4.0


def test_equal_statistics_per_image_give_an_interval_at_zero(record):
    for value in record["networks"]["both"]["interval"].values():
        assert value == {"low": 0.0, "high": 0.0}
    assert record["bootstrap"] == {"draws": 50, "images": 4, "seeds": 2}


def test_the_references_are_trained_since_longer_runs_score_the_same(record):
    assert [r["trained"] for r in record["references"].values()] == [True, True]
    assert "alone_edge is trained: a third more steps move its score by 0.0 % (less than 2 %)." in sentences(record)


def test_a_balancer_is_held_against_the_grid(record):
    verdict = record["networks"]["both"]["grid"]
    assert verdict["best"] == "low" and verdict["better"] is False
    assert any(s.startswith("both is not shown to be better than tuned fixed weights: ") for s in sentences(record))


def test_sentences_follow_the_record(record):
    changed = json.loads(json.dumps(record))
    changed["networks"]["both"]["grid"].update(better=True, margin=1.5, deviation=0.5)
    changed["references"]["edge"].update(trained=False, moved_percent=4.0)
    changed["bootstrap"]["seeds"] = 1
    changed["search"] = {"folds": 2, "values": {"SOLVER.BASE_LR": [1, 2]}}
    changed["failed"] = ["both seed 2"]
    text = "\n".join(sentences(changed))
    for part in (
        "both is better than tuned fixed weights: +1.50 points from the best fixed weights (low), where 2 standard",
        "alone_edge is NOT trained: a third more steps move its score by 4.0 %",
        "with one seed, how far another would move a figure is not in them",
        "Searched on 2 folds",
        "Failed: both seed 2.",
        "All labels come from one annotation.",
    ):
        assert part in text
    text = "\n".join(sentences(record))
    assert "Nothing was searched" in text and "50 % of the summed parameters" in text and "aten::pad" in text
    assert "below its reference: edge (-1.0 %)" in text and "NOT trained" not in text


def test_the_table_has_a_row_for_each_network(record):
    table = render_comparison(record)
    assert table.count("| both ") == table.count("| alone_edge (alone) ") == table.count("| low (fixed weights) ") == 3
    assert "53.5 ± 0.7 " in table and "+1.9 % [+0.0, +0.0]" in table and "100 (50 %)" in table
    assert "`python tools/compare_runs.py toy.yaml`" in table
    assert "Does multi-task help?" in render_comparisons({"toy": record}) and render_comparisons({}) == ""


def test_undefined_figures_are_said_to_be(record):
    changed = json.loads(json.dumps(record))
    both = changed["networks"]["both"]
    both["val"]["edge"], both["change"]["edge"], both["delta_m"] = [None, 0.5], None, None
    both["delta_m_of_seeds"], both["interval"]["delta_m"] = [None, 1.0], None
    changed["networks"]["low"]["delta_m"] = None
    assert "undefined" in render_comparison(changed)
    assert "No joint network has a delta_m" in "\n".join(sentences(changed))
    assert mean_sd([], 1) == "" and mean_sd([1.0, None], 1) == "undefined" and mean_sd([1.0], 1) == "1.0"


def test_a_plot_per_task_and_one_of_delta_m(record, tmp_path):
    paths = draw_comparison(record, tmp_path)
    assert [path.name for path in paths] == ["sem_seg.png", "edge.png", "delta_m.png"]
    for path in paths:
        assert imread(path)[..., :3].std() > 0.02  # something is drawn


def test_a_network_without_all_seeds_is_left_out_and_named(tmp_path):
    with toy_comparison(tmp_path) as (comparison, runs):
        (tmp_path / "runs" / "fail").write_text("both_seed_2")
        found = Campaign(comparison, runs).carry_out()
        write_json(tmp_path / "record.json", new_findings(found, ["x"], draws=2))
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["missing"] == ["both"] and "both" not in record["networks"]
    text = render_comparison(record)
    assert "Failed: both seed 2." in text and "Left out, since a run is missing: both." in text
