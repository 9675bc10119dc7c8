"""The command: wrong input is a sentence and status 2, a dry run writes nothing."""

import importlib.util
from pathlib import Path

import pytest

from .toy import toy_comparison

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def main(monkeypatch):
    spec = importlib.util.spec_from_file_location("mtl_d2_test_compare_runs", ROOT / "tools/compare_runs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool.signal, "signal", lambda *_: None)  # the handlers of the tests stay
    return tool.main


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
