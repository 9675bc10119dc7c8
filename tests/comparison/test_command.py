"""The command: wrong input is a sentence and status 2, a dry run writes nothing."""

import pytest

from .toy import main_of, toy_comparison


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
