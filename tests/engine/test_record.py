import dataclasses
import json
import math
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl_d2.engine.record import (
    PACKAGE_DIR,
    RunRecord,
    git_state,
    new_record,
    portable_command,
    read_record,
    shell_line,
    write_record,
)
from mtl_d2.engine.results_figures import column
from mtl_d2.engine.results_page import load_records, render, render_main_figures, render_summary, seed_groups

TOOL = PACKAGE_DIR.parent / "tools" / "write_results.py"

RECORD = RunRecord(
    results={
        "bbox": {"AP": 40.0, "AP50": 60.0, "APl": math.nan, "AP-disk": 1.0},
        "segm": {"AP": 50.0},
        "edge": {"ODS": 0.8},
    },
    images={"instance": 40, "edge": 30},
    config="configs/shapes/joint.yaml",
    overrides=["SOLVER.MAX_ITER", "400", "SEED", "1"],
    command="python tools/train_net.py --config-file configs/shapes/joint.yaml SEED 1",
    commit="0123456789abcdef",
    dirty=False,
    device="cpu",
    torch="2.15.0",
    detectron2="0.6",
    seed=1,
    iterations=400,
    seconds={"train": 12.4, "eval": 1.0},
    peak_memory_mib=None,
    skipped_images={"a.jpg": 2},
    finished="2026-01-02T03:04:05+00:00",
    skipped_steps=3,
)


def _replace(seed=1, ap=40.0, **changes):
    overrides = ["SOLVER.MAX_ITER", "400", "SEED", str(seed), "OUTPUT_DIR", f"output/{seed}"]
    results = {"bbox": {"AP": ap, "AP50": ap + 20}, "segm": {"AP": ap + 10}}
    changes = {"seed": seed, "overrides": overrides, "results": results, **changes}
    return dataclasses.replace(RECORD, **changes)


def test_round_trip_keeps_every_field_and_nan_is_null(tmp_path):
    path = tmp_path / "new" / "report.json"
    write_record(path, RECORD)
    assert json.loads(path.read_text())["results"]["bbox"]["APl"] is None
    read = read_record(path)
    assert math.isnan(read.results["bbox"].pop("APl"))
    expected = dataclasses.asdict(RECORD)
    del expected["results"]["bbox"]["APl"]
    assert dataclasses.asdict(read) == expected
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


def test_a_record_from_before_steps_were_counted_is_read(tmp_path):
    path = tmp_path / "report.json"
    write_record(path, RECORD)
    values = json.loads(path.read_text())
    del values["skipped_steps"]
    path.write_text(json.dumps(values))
    assert read_record(path).skipped_steps == 0


def test_numpy_and_torch_scalars_are_written_as_numbers(tmp_path):
    results = {"bbox": {"AP": np.float64(1.5), "AP50": np.float32("nan"), "AR": torch.tensor(2.5)}}
    write_record(tmp_path / "r.json", dataclasses.replace(RECORD, results=results, seed=np.int64(3)))
    read = read_record(tmp_path / "r.json")
    assert (read.results["bbox"]["AP"], read.results["bbox"]["AR"], read.seed) == (1.5, 2.5, 3)
    assert math.isnan(read.results["bbox"]["AP50"])


def test_a_failed_write_leaves_the_old_record(tmp_path):
    path = tmp_path / "report.json"
    write_record(path, RECORD)
    before = path.read_text()
    with pytest.raises(TypeError):
        write_record(path, dataclasses.replace(RECORD, images={"instance": object()}))
    assert path.read_text() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": None}, "seed is a NoneType"),
        ({"seed": True}, "seed is a bool"),
        ({"results": {"bbox": {"AP": "40"}}}, "results is a dict or holds another type"),
        ({"results": {"bbox": 4}}, "results is a dict or holds another type"),
        ({"overrides": "SEED 1"}, "overrides is a str"),
        ({"extra": 1}, r"unknown keys \['extra'\]"),
    ],
)
def test_read_names_file_and_key(tmp_path, change, message):
    path = tmp_path / "report.json"
    write_record(path, RECORD)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=rf"report\.json: .*{message}"):
        read_record(path)


def test_read_refuses_what_is_no_record(tmp_path):
    path = tmp_path / "report.json"
    for text, message in [("{", "not a JSON file"), ("[]", "a list found"), ("{}", "missing keys")]:
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"report\.json: {message}"):
            read_record(path)


def test_new_record_fills_in_the_environment():
    config = PACKAGE_DIR.parent / "configs" / "shapes" / "joint.yaml"
    argv = [
        "/opt/elsewhere/train_net.py",
        "--config-file",
        str(config),
        f"--output={Path.cwd() / 'output/a b'}",
    ]
    record = new_record(
        results={},
        images={},
        config=str(config),
        overrides=["MODEL.WEIGHTS", "/home/somebody/model.pth"],
        seed=0,
        iterations=1,
        seconds={"train": 1.0},
        device="cpu",
        argv=argv,
    )
    assert record.config == "configs/shapes/joint.yaml" and record.device == "cpu"
    assert record.overrides == ["MODEL.WEIGHTS", "model.pth"]
    words = "python train_net.py --config-file configs/shapes/joint.yaml '--output=output/a b'"
    assert record.command == words
    assert record.torch == torch.__version__


def test_portable_command_keeps_relative_words():
    words = ["tools/train_net.py", "SOLVER.BASE_LR", "0.1", "MODEL.WEIGHTS", "detectron2://R-50.pkl"]
    assert portable_command(words) == "python " + " ".join(words)


def test_git_state_of_a_checkout_and_of_an_installed_package(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/a.json").write_text("{}")
    assert git_state(package) == (None, False)
    git("init")
    assert git_state(package) == (None, False)  # inside a checkout, but not of it
    git("add", ".")
    git("commit", "-m", "a")
    commit, dirty = git_state(package)
    assert len(commit) == 40 and not dirty
    (tmp_path / "results/a.json").write_text("a record that was kept")
    assert git_state(package) == (commit, False)
    (package / "__init__.py").write_text("changed = True")
    assert git_state(package) == (commit, True)


def test_page_has_a_row_per_record_and_a_mean_over_seeds():
    records = {
        "shapes/a": _replace(1, 40.0),
        "shapes/b": _replace(2, 44.0),
        "nuclei/c": dataclasses.replace(RECORD, config="configs/nuclei/joint.yaml", dirty=True),
    }
    assert seed_groups(records) == [["shapes/a", "shapes/b"]]
    page = render(records)
    lines = page.splitlines()
    assert page.index("## nuclei") < page.index("## shapes")
    (row,) = [line for line in lines if line.startswith("| nuclei/c ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == ["joint.yaml", "40.0", "60.0", "50.0", "0.800"]
    assert cells[6:] == ["instance 40, edge 30", "cpu", "12", "1", "012345678*"]
    (mean,) = [line for line in lines if "mean of 2" in line]
    assert "shapes/a, shapes/b" in mean and "| 42.0 ± 2.8 | 62.0 ± 2.8 | 52.0 ± 2.8 |" in mean
    assert f"`{RECORD.command}`" in page
    assert "nan" not in page.lower().replace("nuclei", "")


def test_records_with_other_overrides_are_not_averaged():
    records = {"a": _replace(1), "b": _replace(2, overrides=["SOLVER.MAX_ITER", "800", "SEED", "2"])}
    assert seed_groups(records) == []
    assert seed_groups({"a": _replace(1), "b": _replace(1)}) == []


def test_several_test_sets_have_a_row_each():
    def scored(seed, val, other):
        results = {"val/bbox": {"AP": val}, "other/bbox": {"AP": other}}
        return _replace(seed, results=results, images={"val/instance": 3, "other/instance": 5})

    page = render({"a": scored(1, 40.0, 10.0), "b": scored(2, 44.0, 20.0)})
    assert "| a on val | joint.yaml | 40.0 | instance 3 |" in page
    assert "| b on other | joint.yaml | 20.0 | instance 5 |" in page
    assert "**mean of 2**: a on val, b on val | joint.yaml | 42.0 ± 2.8 |" in page


def test_figures_of_a_users_own_task_keep_three_decimals_and_percentages_one():
    results = {"segm": {"AP": 41.26}, "val/edge": {"ODS": 0.7312}, "depth": {"abs_rel": 0.1234, "rmse": float("nan")}}
    shown = render_main_figures(_replace(1, results=results), lambda rows, **options: str(rows))
    for row in (["segm", "AP", "41.3"], ["val/edge", "ODS", "0.731"], ["depth", "abs_rel", "0.123"]):
        assert str(row) in shown
    assert str(["depth", "rmse", "undefined"]) in shown


def test_a_users_own_task_has_columns():
    results = {"edge": {"ODS": 0.7}, "depth": {"abs_rel": 0.1234, "rmse-x": 1.0}}
    page = render({"own/depth": _replace(1, results=results)})
    assert "| record | config | edge ODS | depth abs_rel | images |" in page and "| 0.700 | 0.123 |" in page


def test_disjoint_labels_stand_beside_all_labels_at_equal_steps_and_at_equal_labelled_images():
    def run(seed, ap, iterations):
        return dataclasses.replace(_replace(seed, results={"bbox": {"AP": ap}}), iterations=iterations)

    page = render(
        {
            "disjoint/shapes_train_full_seed1": run(1, 40.0, 300),
            "disjoint/shapes_train_full_seed2": run(2, 50.0, 300),
            "disjoint/shapes_train_disjoint_seed1": run(1, 30.0, 300),
            "disjoint/shapes_train_disjoint_seed2": run(2, 45.0, 300),
            "disjoint/shapes_train_short_seed1": run(1, 24.0, 100),
            "disjoint/shapes_train_short_seed2": run(2, 0.0, 100),
            "disjoint/shapes_train_long_seed1": run(1, 44.0, 900),
        }
    )
    assert "shapes_train, seeds 1, 2" in page and "| all labels, 100 steps |" in page
    # 30/40 = 75 %, 45/50 = 90 %; a reference of 0 has no share: 30/24 alone; 44/40 = 110 % of the one seed.
    at_equal_steps = "37.5 ± 10.6 | 45.0 ± 7.1 | 82 ± 11 %"
    assert f"| box AP | {at_equal_steps} | 37.5 ± 10.6 | 12.0 ± 17.0 | 125 % | 44.0 | 45.0 ± 7.1 | 110 % |" in page


def test_a_command_can_be_read_and_pasted():
    words = ["python", "a b", "", "MODEL.MTL.TASKS", "['edge']", "it's $5", "`'`", "'\\'", "\"'", "!'", "a\nb"]
    assert shlex.split(shell_line(words)) == words
    assert shell_line(["TASKS", "['edge']", "x"]) == """TASKS "['edge']" x"""
    echoed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {shell_line(words)}"], capture_output=True, text=True, check=True
    )
    assert echoed.stdout.split("\0")[:-1] == words
    record = dataclasses.replace(RECORD, command="python x.py configs/compare/../a.yaml '('\"'\"'val'\"'\"',)'")
    page = render({"own/val": record, "own/again": record})
    assert "- own/val, own/again (" in page and """: `python x.py configs/a.yaml "('val',)"`""" in page


def test_a_column_is_a_figure_or_the_mean_of_several():
    def run(**aps):
        return _replace(1, results={"segm": {f"AP-{name}": value for name, value in aps.items()}})

    rare, rest = column("rare", ["segm/AP-cross"]), column("rest", ["segm/AP-ring", "segm/AP-bar"])
    both = [run(cross=10.0, ring=40.0, bar=50.0), run(cross=14.0, ring=40.0, bar=60.0)]
    assert (rare.text(both), rest.text(both)) == ("12.0 ± 2.8", "47.5 ± 3.5")
    # A mean of some of its figures would be another figure.
    assert rest.text([run(ring=40.0)]) == rest.text([run(ring=40.0, bar=float("nan"))]) == ""
    assert column("own", ["depth/rel/abs"]).text([_replace(1, results={"depth": {"rel/abs": 0.1234}})]) == "0.123"


def test_tool_keeps_a_run_writes_the_page_and_checks_it(tmp_path, monkeypatch, capsys):
    write_record(tmp_path / "run" / "report.json", RECORD)
    page, results, readme = tmp_path / "RESULTS.md", tmp_path / "results", tmp_path / "README.md"
    readme.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")

    def run(*arguments):
        words = [TOOL, "--results-dir", results, "--output", page, "--readme", readme, *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        return runpy.run_path(str(TOOL))["main"]()

    (results / "benchmark").mkdir(parents=True)
    speed = {"comparisons": [], "commit": None, "dirty": False, "torch": "2", "detectron2": "0.6", "finished": "2026"}
    (results / "benchmark" / "joint.json").write_text(json.dumps({**speed, "command": "python x.py"}))
    assert run("--add", tmp_path / "run", "--name", "shapes/joint") == 0
    assert list(load_records(results)) == ["shapes/joint"] and "| shapes/joint |" in page.read_text()
    assert "## Speed" in page.read_text() and "`python x.py`" in page.read_text()
    assert run("--check") == 0
    assert readme.read_text().startswith("before\n<!-- results -->\n| record |")
    assert readme.read_text().endswith("|\n<!-- /results -->\nafter\n") and "| 0.800 |" in readme.read_text()
    readme.write_text(readme.read_text().replace("0.800", "0.900"))
    assert run("--check") == 1
    run()
    page.write_text("typed by hand")
    assert run("--check") == 1
    capsys.readouterr()
    run("--print", tmp_path / "run")
    shown = capsys.readouterr().out
    assert "40.0" in shown and "0.800" in shown and "undefined" in shown and "AP-disk" not in shown


def test_the_published_figures_are_those_of_the_records(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--check"])
    assert runpy.run_path(str(TOOL))["main"]() == 0


def test_summary_has_test_sets_and_no_training_images():
    results = {"pets_val/edge": {"ODS": 0.8}, "pets_train.sample100/edge": {"ODS": 0.9}}
    record = dataclasses.replace(RECORD, results=results, config="configs/compare/../pets/cpu.yaml")
    (line,) = render_summary({"pets/joint": record}).splitlines()[2:]
    assert line == "| pets/joint on pets_val | `configs/pets/cpu.yaml` | 0.800 | 12 s |"
