"""A comparison is run once, goes on after an interruption, and survives a run that fails."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mtl_d2.comparison import Campaign, ComparisonError, carry_out, describe_plan
from mtl_d2.comparison.execute import POLL_SECONDS
from mtl_d2.comparison.plan import Run

from .toy import started, toy_comparison, toy_runs

SEARCH = {"folds": 2, "values": {"SOLVER.BASE_LR": [0.1, 0.2]}}


def test_nothing_is_run_twice_and_a_changed_key_or_seed_is_run(tmp_path):
    with toy_comparison(tmp_path) as (comparison, runs):
        Campaign(comparison, runs).carry_out()
        assert len(started(tmp_path)) == 2 * (3 + 2)
        found = Campaign(comparison, toy_runs(tmp_path)).carry_out()
        assert len(started(tmp_path)) == 10 and len(found.final) == 6 and len(found.longer) == 4
    changes = {"seeds": [2, 3], "overrides": {}}
    with toy_comparison(tmp_path, **changes) as (comparison, runs):  # of other toy data: other names
        Campaign(comparison, runs, only=["both"]).carry_out()
        assert started(tmp_path)[10:] == ["both_seed_2", "both_seed_3"]


def test_a_seed_that_is_added_is_the_only_one_that_is_run(tmp_path):
    with toy_comparison(tmp_path) as (comparison, runs):
        Campaign(comparison, runs, only=["both"]).carry_out()
        Campaign(replace(comparison, seeds=(1, 2, 3)), runs, only=["both"]).carry_out()
        assert started(tmp_path) == ["both_seed_1", "both_seed_2", "both_seed_3"]
        Campaign(replace(comparison, overrides={"SOLVER.MAX_ITER": 8}, seeds=(1,)), runs, only=["both"]).carry_out()
        assert started(tmp_path)[3:] == ["both_seed_1"]


def test_candidates_of_one_config_share_their_runs(tmp_path):
    joint = {name: {"MODEL.MTL.TASKS": ["sem_seg", "edge"]} for name in ("both", "same")}
    with toy_comparison(tmp_path, joint=joint) as (comparison, runs):
        found = Campaign(comparison, runs, only=["both", "same"]).carry_out(jobs=2)
        assert sorted(started(tmp_path)) == ["both_seed_1", "both_seed_2"]
        assert {name for name, _ in found.final} == {"both", "same"}


def test_a_failed_run_is_named_with_its_console_and_the_others_go_on(tmp_path, capsys):
    with toy_comparison(tmp_path) as (comparison, runs):
        (tmp_path / "runs" / "fail").write_text("alone_edge_seed_1")
        found = Campaign(comparison, runs).carry_out(jobs=2)
        assert found.failed == ["alone_edge seed 1"] and len(found.final) == 5
        (name,) = [word for word in capsys.readouterr().err.split() if word.endswith("console.txt")]
        assert open(name).read() == "no luck\n"  # noqa: SIM115
        (tmp_path / "runs" / "fail").unlink()
        assert Campaign(comparison, runs).carry_out().failed == [] and len(started(tmp_path)) == 11


def test_the_search_chooses_for_each_and_the_networks_have_it(tmp_path):
    """The higher learning rate is better for semantics (+1 of 52), worse for edges (-0.01 of 0.5): for both, too."""
    with toy_comparison(tmp_path, search=SEARCH) as (comparison, runs):
        found = Campaign(comparison, runs).carry_out()
        chosen = {name: choice.values["SOLVER.BASE_LR"] for name, choice in found.choices.items()}
        assert chosen == {"alone_sem_seg": 0.2, "alone_edge": 0.1, "both": 0.1}
        assert found.choices["alone_sem_seg"].scores == pytest.approx([52, 53])
        # Of the references' best, 53 and 0.5.
        assert found.choices["both"].scores == pytest.approx([100 * (52 / 53 - 1) / 2, 100 * (0.49 / 0.5 - 1) / 2])
        assert "SOLVER.BASE_LR" in found.final["both", 1].words
        assert len(started(tmp_path)) == 3 * 2 * 2 + 10


def test_a_reference_is_chosen_by_its_own_task(tmp_path, monkeypatch):
    """One that has another task too, on which its own depends, and stands before that task's reference."""
    monkeypatch.setattr("mtl_d2.tasks.edge.EdgeBranch.depends_on", ("sem_seg",))
    references = {
        "alone_edge": {"MODEL.MTL.TASKS": ["sem_seg", "edge"]},
        "alone_sem_seg": {"MODEL.MTL.TASKS": ["sem_seg"]},
    }
    with toy_comparison(tmp_path, search=SEARCH, references=references) as (comparison, runs):
        choices = Campaign(comparison, runs).carry_out().choices
    assert choices["alone_edge"].scores == pytest.approx([0.5, 0.49])
    assert choices["alone_sem_seg"].scores == pytest.approx([52, 53])
    assert choices["both"].scores == pytest.approx([100 * (52 / 53 - 1) / 2, 100 * (0.49 / 0.5 - 1) / 2])


def test_a_network_whose_reference_was_not_searched_is_not_trained(tmp_path):
    with toy_comparison(tmp_path, search=SEARCH) as (comparison, runs):
        found = Campaign(comparison, runs, only=["both"]).carry_out()
        assert found.choices == {} and found.final == {}


@pytest.fixture
def measured(monkeypatch):
    """What the costs are asked of: (networks, references, rounds) of each call."""
    calls = []
    monkeypatch.setattr(carry_out, "measure_costs", lambda *args, rounds: calls.append((*args, rounds)) or {"a": 1})
    return calls


def test_costs_are_of_the_first_seeds_networks_as_they_are_scored(tmp_path, measured):
    """With the values that the search chose, and the keys of the last stage."""
    stages = [{"NAME": "a", "SOLVER.MAX_ITER": 4}, {"NAME": "b", "SOLVER.MAX_ITER": 5}]
    stages[1]["MODEL.MTL.EDGE_HEAD.LOSS"] = "dice"
    both = {"MODEL.MTL.TASKS": ["sem_seg", "edge"]}
    joint = {"both": both, "staged": {**both, "SOLVER.MTL.STAGES": stages}}
    with toy_comparison(tmp_path, search=SEARCH, joint=joint) as (comparison, runs):
        campaign = Campaign(comparison, runs)
        found = campaign.carry_out()
        assert campaign.costs(found, rounds=3) == {"a": 1} and campaign.costs(found, rounds=0) == {}
        places = {name: runs.place(found.final[name, 1]) / "model_final.pth" for name in (*joint, "alone_edge")}
    ((networks, references, rounds),) = measured
    assert (list(networks), references, rounds) == (
        ["alone_sem_seg", "alone_edge", "both", "staged"],
        ["alone_sem_seg", "alone_edge"],
        3,
    )
    assert {name: networks[name][1] for name in places} == places
    cfgs = {name: cfg for name, (cfg, _) in networks.items()}
    assert {name: cfg.SOLVER.BASE_LR for name, cfg in cfgs.items()} == {
        "alone_sem_seg": 0.2,
        "alone_edge": 0.1,
        "both": 0.1,
        "staged": 0.1,
    }
    assert (cfgs["both"].MODEL.MTL.EDGE_HEAD.LOSS, cfgs["staged"].MODEL.MTL.EDGE_HEAD.LOSS) == ("hed", "dice")
    assert cfgs["alone_edge"].MODEL.MTL.TASKS == ["edge"] and cfgs["both"].MODEL.MTL.TASKS == ["sem_seg", "edge"]


def test_costs_leave_out_a_network_without_all_seeds_and_need_every_reference(tmp_path, measured):
    with toy_comparison(tmp_path) as (comparison, runs):
        (tmp_path / "runs" / "fail").write_text("both_seed_2")
        campaign = Campaign(comparison, runs)
        campaign.costs(campaign.carry_out(), rounds=2)
        assert list(measured[0][0]) == ["alone_sem_seg", "alone_edge"]
        (tmp_path / "runs" / "fail").write_text("alone_edge_seed_3")
        campaign = Campaign(replace(comparison, seeds=(1, 3)), runs)
        assert campaign.costs(campaign.carry_out(), rounds=2) == {} and len(measured) == 1


def test_a_dry_run_lists_what_is_missing_and_how_long_it_takes(tmp_path):
    with toy_comparison(tmp_path, search=SEARCH) as (comparison, runs):
        text = describe_plan(Campaign(comparison, runs), jobs=1)
        assert "22 of 22 runs to do" in text and "known when the first" in text and started(tmp_path) == []
        Campaign(comparison, runs, only=["alone_edge"]).carry_out()
        text = describe_plan(Campaign(comparison, runs), jobs=2)
        assert "alone_edge" not in text and "both longer" not in text
        # 14 runs of 9 steps and two of 12; those that are done took 3 s each, six of 9 steps and two of 12.
        assert "14 of 22 runs to do, 8 done, 2 beside each other." in text and "About 0 h 1 min" in text


def test_a_name_that_is_not_there_is_a_sentence(tmp_path):
    with toy_comparison(tmp_path) as (comparison, runs), pytest.raises(ComparisonError, match="--only joint: no such"):
        Campaign(comparison, runs, only=["joint"])


def test_a_record_without_the_scores_of_all_test_sets_is_run_again(tmp_path):
    with toy_comparison(tmp_path) as (comparison, runs):
        found = Campaign(comparison, runs, only=["both"]).carry_out()
        path = runs.place(found.final["both", 1]) / "report.json"
        path.write_text(path.read_text().replace(".sample4/", ".sample3/"))
        assert runs.record(found.final["both", 1]) is None and runs.record(found.final["both", 2]) is not None
        path.write_text(path.read_text()[:40])
        assert runs.record(found.final["both", 1]) is None


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the child in /proc")
def test_a_comparison_that_is_ended_ends_its_trainings(tmp_path):
    """SIGTERM, as tools/compare_runs.py takes it."""
    code = """
        import signal, sys
        from pathlib import Path
        from mtl_d2.comparison.execute import Runs
        from mtl_d2.comparison.plan import Run
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        sleep = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        runs = Runs(Path(sys.argv[1]), [sys.executable, "-S", "-c", sleep])
        runs.execute([Run(name, "c", (), name, 1, 1, ("val",)) for name in ("first", "second")])
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)])
    console = tmp_path / "first-first" / "console.txt"
    deadline = time.monotonic() + 120
    while not (console.exists() and console.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 143
    assert not os.path.exists(f"/proc/{int(console.read_text())}")
    assert os.listdir(tmp_path) == ["first-first"]  # and nothing is left of those that were not begun


def test_a_run_that_another_process_trains_is_waited_for(tmp_path):
    """A training that outlived the comparison that began it, say: the folder is locked for as long as it lives."""
    runs, other = toy_runs(tmp_path), toy_runs(tmp_path)
    other.command = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    run = Run("both seed 1", "c", ("DATASETS.TEST", "('val',)", "SEED", "1"), "key", 1, 1, ("val",))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(other.execute, [run])
        while not other._children:
            time.sleep(0.01)
        second = pool.submit(runs.execute, [run])
        time.sleep(3 * POLL_SECONDS)
        assert started(tmp_path) == [] and not second.done()
        (training,) = other._children
        training.kill()
        assert first.result(60) == [run] and second.result(60) == []
    assert started(tmp_path) == ["both_seed_1"]
    assert toy_runs(tmp_path)._train(run) and started(tmp_path) == ["both_seed_1"]  # done in the meantime


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_peak_memory_is_that_of_the_run(tmp_path):
    """And not that of the process that starts it, which is larger than this."""
    script = "import time; x = bytearray(100 * 2**20); time.sleep(2)"
    runs = toy_runs(tmp_path)
    runs.command = [sys.executable, "-S", "-c", script]
    run = Run("big", "c", (), "key", 1, 1, ("val",))
    assert runs.execute([run]) == [run]  # it leaves no record
    assert 100 < runs.peak_memory_mib(run) < 200
