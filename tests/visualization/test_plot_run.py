"""tools/plot_run.py as a person runs it."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.visualization.test_pr_curves import _edge, _write

TOOL = Path(__file__).parents[2] / "tools" / "plot_run.py"


@pytest.fixture
def plot(monkeypatch):
    def _plot(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        return runpy.run_path(str(TOOL))["main"]()

    return _plot


def _run(folder, lines=('{"iteration": 19, "loss_cls": 2}', '{"iteration": 20, "bbox/AP50": 30}')):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text("\n".join(lines) + "\n")
    return folder


def test_pictures_go_into_the_runs_folder_and_are_of_a_size_to_be_read(tmp_path, plot):
    run = _run(tmp_path / "run")
    _write(run, "val", "edge_pr.json", _edge())
    assert plot(run) == 0
    assert {path.name for path in (run / "plots").iterdir()} == {"curves.png", "pr_val.png"}
    with Image.open(run / "plots" / "curves.png") as picture:
        assert picture.width == 1600 and picture.info["dpi"] == pytest.approx((100, 100), abs=0.1)


def test_output_may_be_a_picture_and_several_runs_share_it(tmp_path, plot):
    first, second = _run(tmp_path / "a"), _run(tmp_path / "b", ['{"iteration": 9, "task/edge": NaN}'])
    _write(second, "val", "edge_pr.json", _edge())
    assert plot(first, second, "--output", tmp_path / "out/both.svg") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"both.svg", "both_pr_val.svg"}


def test_evaluation_without_training_has_its_curves(tmp_path, plot):
    _write(tmp_path / "sobel", "val", "edge_pr.json", _edge())
    assert plot(tmp_path / "sobel", "--output", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pr_val.png"]


@pytest.mark.parametrize(
    ("lines", "message"), [(None, "no such file"), ([""], "it is empty"), (['{"iteration'], "none of its 1 lines")]
)
def test_run_without_scalars_ends_with_one_sentence(tmp_path, plot, capsys, lines, message):
    run = tmp_path / "run"
    run.mkdir()
    if lines is not None:
        _run(run, lines)
    assert plot(_run(tmp_path / "good"), run) == 1
    error = capsys.readouterr().err
    assert error.startswith("plot_run.py: ") and message in error and str(run) in error and error.count("\n") == 1


def test_folder_that_does_not_exist_or_cannot_be_written(tmp_path, plot, capsys):
    with pytest.raises(SystemExit) as stop:
        plot(tmp_path / "nowhere")
    assert stop.value.code == 2 and "nowhere: no such folder" in capsys.readouterr().err
    (tmp_path / "file").write_text(json.dumps({}))
    assert plot(_run(tmp_path / "run"), "--output", tmp_path / "file" / "sub") == 1
    assert "sub: cannot be read or written (Not a directory)" in capsys.readouterr().err
