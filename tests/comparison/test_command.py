"""The command: wrong input is a sentence and status 2, a dry run writes nothing, a failed run is status 1."""

import json

import pytest
import torch

from .toy import main_of, started, toy_comparison


@pytest.fixture
def main(monkeypatch):
    return main_of("compare_runs", monkeypatch)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.yaml"], "missing.yaml: cannot be read"),
        (["missing.yaml", "--jobs", "0"], "expected 1 or more jobs"),
        (["missing.yaml", "--rounds", "1"], "expected 1 or more jobs, 0 or 2 or more rounds"),
    ],
)
def test_wrong_input_ends_with_2_and_a_sentence(main, capsys, words, sentence):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_a_dry_run_lists_the_runs_and_writes_nothing(main, capsys, tmp_path):
    with toy_comparison(tmp_path):
        assert main([str(tmp_path / "toy.yaml"), "--dry-run", "--output", str(tmp_path / "out")]) == 0
        assert main([str(tmp_path / "toy.yaml"), "--only", "nobody", "--output", str(tmp_path / "out")]) == 2
    out, error = capsys.readouterr()
    assert "both seed 2: 9 steps" in out and "10 of 10 runs to do" in out and not (tmp_path / "out").exists()
    assert "--only nobody: no such network in toy" in error


def test_the_first_seeds_alone_are_run_on_demand(main, capsys, tmp_path):
    """With the search of all: its runs are of the file's first seed."""
    search = {"folds": 2, "held_out": 1, "values": {"SOLVER.BASE_LR": [0.1, 0.2]}}
    with toy_comparison(tmp_path, search=search):
        words = [str(tmp_path / "toy.yaml"), "--output", str(tmp_path / "out"), "--dry-run"]
        assert main([*words, "--seeds", "1"]) == 0
        assert main([*words, "--seeds", "3"]) == 2
    out, error = capsys.readouterr()
    assert "11 of 11 runs to do" in out and "seed 2" not in out
    assert error.endswith(": --seeds 3: expected 1 to 2, the seeds of toy.\n") and error.count("\n") == 1


@pytest.fixture
def compare(main, monkeypatch, tmp_path):
    """A function that runs the toy comparison without measuring costs; it gives the status and the output's folder."""
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)

    def run(*words):
        with toy_comparison(tmp_path, threads=2) as (_, runs):
            monkeypatch.setitem(main.__globals__, "TRAIN", runs.command)
            status = main([str(tmp_path / "toy.yaml"), "--output", str(tmp_path / "out"), "--rounds", "0", *words])
        assert threads == [2]  # of one training, for what is measured here
        return status, tmp_path / "out" / "toy"

    (tmp_path / "out" / "toy" / "runs").mkdir(parents=True)
    return run


def test_a_comparison_leaves_its_record_table_and_plots(compare, capsys, tmp_path):
    status, folder = compare("--jobs", "2", "--json", str(tmp_path / "kept.json"))
    assert status == 0 and len(started(folder)) == 2 * (3 + 2)
    record = json.loads((folder / "comparison.json").read_text())
    assert json.loads((tmp_path / "kept.json").read_text()) == record
    assert (record["failed"], record["missing"], record["sum"]) == ([], [], {})
    assert record["networks"]["both"]["val"]["sem_seg"] == [52, 53] and record["networks"]["both"]["cost"] is None
    assert record["command"].startswith("python tools/compare_runs.py ") and "--rounds 0" in record["command"]
    table = (folder / "table.md").read_text()
    assert "| both " in table and table in capsys.readouterr().out
    assert {path.name for path in (folder / "plots").iterdir()} == {"sem_seg.png", "edge.png", "delta_m.png"}


def test_a_comparison_of_which_a_run_failed_ends_with_1_and_has_the_others(compare, tmp_path):
    (tmp_path / "out" / "toy" / "runs" / "fail").write_text("both_seed_2")
    status, folder = compare()
    assert status == 1
    record = json.loads((folder / "comparison.json").read_text())
    assert (record["failed"], record["missing"]) == (["both seed 2"], ["both"])
    assert set(record["networks"]) == {"alone_sem_seg", "alone_edge"}
    assert "Failed: both seed 2." in (folder / "table.md").read_text()
