"""From finished runs to the record, the table, the sentences and the plots."""

import json

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from mtl_d2.comparison import Campaign, new_findings, render_comparison, render_comparisons
from mtl_d2.comparison.costs import Cost
from mtl_d2.comparison.page import mean_sd
from mtl_d2.comparison.plots import ROLES, draw_comparison
from mtl_d2.comparison.sentences import sentences
from mtl_d2.engine.record import read_json_folder, write_json
from mtl_d2.evaluation.per_image import Confusions, EdgeCounts

from .toy import started, toy_comparison

CHANGES = {
    "joint": {"both": {"MODEL.MTL.TASKS": ["sem_seg", "edge"], "SOLVER.BASE_LR": 0.2}},
    "grid": {"low": {"MODEL.MTL.TASKS": ["sem_seg", "edge"], "SOLVER.BASE_LR": 0.15}},
    "balancers": ["both"],
    "note": "All labels come from one annotation.",
}


def _keep_images(runs, run, seed, more=0, root="/data"):
    """What evaluators would have left: of four images, ``more`` right pixels in each than a reference has."""
    folder = runs.place(run) / "inference" / run.test_sets[0]
    names = tuple(f"{root}/val/{i}.png" for i in range(4))
    right = 40 + seed + more + np.arange(4)
    Confusions(names, np.array([[[r, 5], [5, 50]] for r in right])).write(folder, "sem_seg")
    EdgeCounts(names, np.array([[[r - 2 * more, 60, r - 2 * more, 60]] for r in right])).write(folder, "edge")


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    with toy_comparison(folder, **CHANGES) as (comparison, runs):
        found = Campaign(comparison, runs).carry_out()
        for (name, seed), run in found.final.items():
            # One network was run where the data lay elsewhere: the images are the same.
            _keep_images(runs, run, seed, 4 if name == "both" else 0, "/elsewhere" if name == "both" else "/data")
        cost = Cost(parameters=100, flops=2e9, uncounted={"aten::pad": 1.0}, milliseconds=5.0)
        found.costs.update({candidate.name: cost for candidate in comparison.candidates})
        write_json(folder / "toy.json", new_findings(found, ["tools/compare_runs.py", "toy.yaml"], draws=50))
    (loaded,) = read_json_folder(folder).values()
    return loaded


def test_each_task_stands_beside_its_reference(record):
    """Scores of the toy trainer: 50 + seed + 10 x rate, and 0.5 + seed / 100 - rate / 10; references have rate 0.1."""
    both = record["networks"]["both"]
    assert both["val"]["sem_seg"] == [53, 54] and both["val"]["edge"] == pytest.approx([0.49, 0.50])
    assert both["change"]["sem_seg"] == pytest.approx(100 / 52.5) and both["change"]["edge"] == pytest.approx(
        -1 / 0.505
    )
    assert both["train"]["sem_seg"] == [55, 56] and both["train"]["edge"] == both["val"]["edge"]
    assert both["delta_m"] == pytest.approx((100 / 52.5 - 1 / 0.505) / 2)
    assert np.mean(both["delta_m_of_seeds"]) == pytest.approx(both["delta_m"])
    assert record["sum"] == {"parameters": 200, "flops": 4e9, "milliseconds": 10.0}


def test_an_interval_is_that_of_the_statistics_per_image(record):
    """Each image has four right pixels more than alone, and as many edge pixels less; "low" has the same as alone.

    Of semantics with r right pixels, IoUs are r / (r + 10) and 50 / 60: r is 41 to 45, beside it 45 to 49. Edges have
    a precision and a recall of r / 60, and so that as ODS.
    """
    interval = record["networks"]["both"]["interval"]
    ious = {r: 50 * (r / (r + 10) + 50 / 60) for r in range(41, 50)}
    least, most = (100 * (ious[r + 4] / ious[r] - 1) for r in (45, 41))
    assert least < interval["sem_seg"]["low"] < interval["sem_seg"]["high"] < most
    assert -400 / 41 < interval["edge"]["low"] < interval["edge"]["high"] < -400 / 45
    mean = [(a + b) / 2 for a, b in zip(interval["sem_seg"].values(), interval["edge"].values(), strict=True)]
    assert interval["delta_m"] == pytest.approx(dict(zip(("low", "high"), mean, strict=True)), abs=0.1)
    for value in record["networks"]["low"]["interval"].values():
        assert value == {"low": 0.0, "high": 0.0}
    assert record["bootstrap"] == {"draws": 50, "images": 4, "seeds": 2}


def test_the_references_are_trained_since_longer_runs_score_nearly_the_same(record):
    semantic, edge = record["references"]["sem_seg"], record["references"]["edge"]
    assert semantic["longer"] == pytest.approx([52.26, 53.26]) and semantic["trained"] is True
    assert semantic["moved_percent"] == pytest.approx(100 * 0.26 / 52.5)
    assert (edge["moved_percent"], edge["trained"]) == (0, True)
    assert "alone_edge is trained: a third more steps move its score by 0.0 % (less than 2 %)." in sentences(record)


def test_longer_runs_of_the_first_seed_are_held_against_that_seed(tmp_path):
    with toy_comparison(tmp_path, longer_seeds=1) as (comparison, runs):
        found = Campaign(comparison, runs).carry_out()
        assert {key[1] for key in found.longer} == {1} and len(started(tmp_path)) == 2 * 3 + 2
        write_json(tmp_path / "record.json", new_findings(found, ["x"], draws=2))
    record = json.loads((tmp_path / "record.json").read_text())
    semantic = record["references"]["sem_seg"]
    assert semantic["longer"] == pytest.approx([52.26]) and semantic["moved_percent"] == pytest.approx(100 * 0.26 / 52)
    text = "alone_sem_seg is trained: a third more steps move its score by 0.5 % in seed 1 (less than 2 %)."
    assert text in sentences(record)


def test_a_balancer_is_held_against_the_grid(record):
    verdict = record["networks"]["both"]["grid"]
    assert verdict["best"] == "low" and verdict["better"] is False
    assert any(s.startswith("both is not shown to be better than tuned fixed weights: ") for s in sentences(record))


def test_sentences_follow_the_record(record):
    changed = json.loads(json.dumps(record))
    changed["networks"]["both"]["grid"].update(better=True, margin=1.5, deviation=0.5)
    changed["references"]["edge"].update(trained=False, moved_percent=4.0)
    changed["bootstrap"]["seeds"] = 1
    rates = [{"values": {"SOLVER.BASE_LR": rate}, "score": score} for rate, score in ((1, 0.5), (2, None))]
    for name, network in changed["networks"].items():
        network.update(
            trials=rates if name == "both" else rates[:1] * 2, chosen={"SOLVER.BASE_LR": 1, "SOLVER.STEPS": [3]}
        )
    changed["search"] = {
        "folds": 3,
        "held_out": 2,
        "values": {"SOLVER.BASE_LR": [2, 1, 3], "SOLVER.STEPS": [[3], [4]]},
        "overrides": {"SOLVER.MAX_ITER": 9},
    }
    changed["failed"] = ["both seed 2"]
    changed["networks"]["low"]["images"] = 27
    text = "\n".join(sentences(changed))
    for part in (
        "both is better than tuned fixed weights of as many training images: +1.50 points from the best fixed weights",
        "(low), where 2 standard deviations of the grid are 1.00.",
        "alone_edge is NOT trained: a third more steps move its score by 4.0 %",
        "with one seed, how far another would move a figure is not in them",
        "Searched on 2 of 3 folds of the training images, in runs of 9 steps: SOLVER.BASE_LR",
        "SOLVER.BASE_LR, SOLVER.STEPS; 2 values for each network, the references alike. The images of val",
        "Chosen: SOLVER.BASE_LR 1, SOLVER.STEPS [3] for alone_sem_seg, alone_edge, both, low.",
        "All have SOLVER.BASE_LR 1, which lies at the end of what was tried: one beyond may be better.",
        "Of both a run of the search failed or has no score",
        "low is trained on 1.50 times as many images as each reference.",
        "Failed: both seed 2.",
        "All labels come from one annotation.",
    ):
        assert part in text
    text = "\n".join(sentences(record))
    assert "Nothing was searched" in text and "50 % of the summed parameters" in text and "aten::pad" in text
    assert "below its reference: edge (-1.0 %)" in text and "NOT trained" not in text
    assert "as many images" not in text


def test_the_table_has_a_row_for_each_network(record):
    table = render_comparison(record)
    assert table.count("| both ") == table.count("| alone_edge (alone) ") == table.count("| low (fixed weights) ") == 3
    (train_row,) = (line for line in table.splitlines() if line.startswith("| both ") and "55.5 ± 0.7" in line)
    assert [cell.strip() for cell in train_row.split("|")][3] == "2.0 ± 0.0"  # train - val
    assert "53.5 ± 0.7 " in table and "+1.9 % [+" in table and "100 (50 %)" in table
    assert "`python tools/compare_runs.py toy.yaml`" in table
    assert "Does multi-task help?" in render_comparisons({"toy": record}) and render_comparisons({}) == ""


def test_undefined_figures_are_said_to_be(record):
    changed = json.loads(json.dumps(record))
    both = changed["networks"]["both"]
    both["val"]["edge"], both["change"]["edge"], both["delta_m"] = [None, 0.5], None, None
    both["delta_m_of_seeds"], both["interval"]["delta_m"] = [None, 1.0], None
    changed["networks"]["low"]["delta_m"] = None
    assert "undefined" in render_comparison(changed)
    assert "No joint network of all tasks has a delta_m" in "\n".join(sentences(changed))
    assert mean_sd([], 1) == "" and mean_sd([1.0, None], 1) == "undefined" and mean_sd([1.0], 1) == "1.0"


def test_a_plot_per_task_and_one_of_delta_m(record, tmp_path):
    paths = draw_comparison(record, tmp_path)
    assert [path.name for path in paths] == ["sem_seg.png", "edge.png", "delta_m.png"]
    for path in paths:
        pixels = imread(path)[..., :3]
        for role in ("balancer", "grid"):  # bars and intervals are not transparent
            assert (np.abs(pixels - to_rgb(ROLES[role])).max(-1) < 0.02).sum() > 20, (path.name, role)
        band = (np.abs(pixels - 0.85).max(-1) < 0.005).sum() > 500
        assert band == (path.name != "delta_m.png")  # the reference's mean and deviation


def test_a_network_without_all_seeds_is_left_out_and_named(tmp_path):
    with toy_comparison(tmp_path) as (comparison, runs):
        (tmp_path / "runs" / "fail").write_text("both_seed_2")
        found = Campaign(comparison, runs).carry_out()
        write_json(tmp_path / "record.json", new_findings(found, ["x"], draws=2))
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["missing"] == ["both"] and "both" not in record["networks"]
    text = render_comparison(record)
    assert "Failed: both seed 2." in text and "Left out, since a run is missing: both." in text


def test_an_incomplete_grid_is_no_claim_and_an_incomplete_sum_is_none(tmp_path):
    grid = {name: {"MODEL.MTL.TASKS": ["sem_seg", "edge"], "SOLVER.BASE_LR": r} for name, r in (("a", 0.3), ("b", 0.4))}
    with toy_comparison(tmp_path, joint=CHANGES["joint"], grid=grid, balancers=["both"]) as (comparison, runs):
        (tmp_path / "runs" / "fail").write_text("a_seed_1")
        found = Campaign(comparison, runs).carry_out()
        assert found.failed == ["a seed 1"]
        verdict = new_findings(found, ["x"], draws=2)["networks"]["both"]["grid"]
        assert verdict["better"] is None and verdict["why"] == "of the grid a is missing"
        cost = Cost(parameters=100, flops=2e9, milliseconds=5.0)
        found.costs.update(dict.fromkeys(("alone_edge", "both", "b"), cost))
        findings = new_findings(found, ["x"], draws=2)
        assert findings["sum"] == {}
        assert "(50 %)" not in render_comparison(json.loads(json.dumps(findings)))


def test_networks_of_other_tasks_are_not_held_against_each_other(tmp_path):
    """Each mean is over its own tasks: one of fewer would win by leaving out the task that loses."""
    both = {"MODEL.MTL.TASKS": ["sem_seg", "edge"]}
    joint = {"both": both, "fewer": {"MODEL.MTL.TASKS": ["sem_seg"], "SOLVER.BASE_LR": 0.9}}
    grid = {"a": {**both, "SOLVER.BASE_LR": 0.3}}
    with toy_comparison(tmp_path, joint=joint, grid=grid, balancers=["both", "fewer"]) as (comparison, runs):
        found = Campaign(comparison, runs).carry_out()
        write_json(tmp_path / "record.json", new_findings(found, ["x"], draws=2))
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["networks"]["fewer"]["delta_m"] > record["networks"]["a"]["delta_m"]
    assert "grid" in record["networks"]["both"] and "grid" not in record["networks"]["fewer"]
    text = "\n".join(sentences(record))
    assert "Of fewer tasks, so that their delta_m is beside no other's: fewer." in text
    assert "Of 2 joint networks both has the highest delta_m" in text
    assert "fewer is not held against the fixed weights: a delta_m is missing, or is of other tasks." in text


def test_statistics_of_other_images_are_no_pairs(tmp_path):
    with toy_comparison(tmp_path) as (comparison, runs):
        found = Campaign(comparison, runs).carry_out()
        for (name, seed), run in found.final.items():
            _keep_images(runs, run, seed)
            if name == "both":
                folder = runs.place(run) / "inference" / run.test_sets[0]
                EdgeCounts(("/data/val/9.png",), np.array([[[1, 2, 1, 2]]])).write(folder, "edge")
        findings = new_findings(found, ["x"], draws=2)
    interval = findings["networks"]["both"]["interval"]
    assert "edge" not in interval and interval["delta_m"] is None and interval["sem_seg"] is not None
    assert findings["bootstrap"]["images"] == 4


def test_a_task_is_held_against_its_own_reference(tmp_path, monkeypatch):
    """Where edges need semantics, their reference has both, and stands first: semantics alone is still another's."""
    monkeypatch.setattr("mtl_d2.tasks.edge.EdgeBranch.depends_on", ("sem_seg",))
    rates = {"alone_edge": 0.3, "alone_sem_seg": 0.1, "both": 0.2}
    described = {name: {"MODEL.MTL.TASKS": ["sem_seg", "edge"], "SOLVER.BASE_LR": r} for name, r in rates.items()}
    described["alone_sem_seg"]["MODEL.MTL.TASKS"] = ["sem_seg"]
    joint = {"both": described.pop("both")}
    with toy_comparison(tmp_path, references=described, joint=joint) as (comparison, runs):
        found = Campaign(comparison, runs).carry_out()
        findings = new_findings(found, ["x"], draws=2)
    assert {task: r["network"] for task, r in findings["references"].items()} == {
        "edge": "alone_edge",
        "sem_seg": "alone_sem_seg",
    }
    assert findings["networks"]["both"]["change"]["sem_seg"] == pytest.approx(100 * 1 / 52.5)
    twice = (
        "alone_edge answers sem_seg too, with 54.5 where alone_sem_seg has 52.5: the sum of the references holds both"
    )
    assert any(sentence.startswith(twice) for sentence in sentences(findings))
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.axvspan", lambda axes, low, high, **_: drawn.append((low + high) / 2))
    draw_comparison(findings, tmp_path)
    assert drawn == pytest.approx([np.mean(findings["networks"]["alone_edge"]["val"]["edge"]), 52.5])
