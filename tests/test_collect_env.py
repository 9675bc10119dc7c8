"""What is said where Detectron2 is missing, and the table of `python -m mtl_d2.collect_env`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torchvision

from mtl_d2 import _require, collect_env

ROOT = Path(__file__).resolve().parent.parent
BLOCK = "raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)\n"


@pytest.fixture
def run_without_detectron2(tmp_path):
    """Run Python where detectron2 (and torch, to be quick) fail to import as if not installed."""
    for name in ("detectron2", "torch", "torchvision"):
        (tmp_path / f"{name}.py").write_text(BLOCK)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, *arguments]
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def rows() -> dict[str, str]:
    return dict(collect_env.collect()[0])


def test_importing_without_detectron2_says_how_to_install_it(run_without_detectron2):
    done = run_without_detectron2("-c", "import mtl_d2")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: {_require.MISSING}"
    assert last.index("upstream") < last.index("pip install ./third_party/detectron2")


def test_a_detectron2_that_is_there_but_broken_shows_its_own_error(monkeypatch, tmp_path):
    (tmp_path / "detectron2.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        _require.require_detectron2()


def test_the_table_comes_without_detectron2_and_says_what_to_do(run_without_detectron2):
    done = run_without_detectron2("-m", "mtl_d2.collect_env")
    assert done.returncode == 1
    assert "detectron2           missing\n" in done.stdout
    assert f"to do: {collect_env.NO_TORCHVISION}\n" in done.stdout
    assert f"to do: {_require.MISSING}\n" in done.stdout
    assert done.stderr == ""


def test_only_the_table_s_own_command_goes_without_detectron2(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "-m", "mtl_d2.collect_env"])
    assert _require.env_report_requested()
    for command in (["python", "train.py", "mtl_d2.collect_env"], ["python", "-m", "pytest"], ["python"]):
        monkeypatch.setattr(sys, "orig_argv", command)
        assert not _require.env_report_requested()


def test_the_table_names_every_part(capsys):
    assert collect_env.main() == 0
    shown = capsys.readouterr().out
    names = [line.split("  ")[0] for line in shown.splitlines()]
    parts = [
        "mtl_d2",
        "python",
        "torch",
        "bfloat16",
        "torchvision",
        "detectron2",
        "detectron2._C",
        "numpy",
        "opencv",
    ]
    assert names == [*parts, "pycocotools", "faster-coco-eval", "DETECTRON2_DATASETS", "datasets there"]
    assert "nms runs" in shown


def test_datasets_are_looked_for_where_the_variable_says(monkeypatch, tmp_path):
    for name in ("shapes", "coco", "unknown"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert rows()["datasets there"] == "shapes, coco"
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "unknown"))
    assert rows()["datasets there"].startswith("none of shapes,")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "absent"))
    assert rows()["datasets there"] == "no such folder"


def test_every_family_of_shapes_is_looked_for():
    from mtl_d2.data.datasets.shapes import FAMILIES

    assert set(collect_env.SHAPES_FOLDERS) == set(FAMILIES)
    assert set(FAMILIES) < set(collect_env.DATASET_FOLDERS)


def test_torch_and_torchvision_of_different_builds_are_named(monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(torchvision.ops, "nms", fail)
    assert collect_env.main() == 1
    shown = capsys.readouterr().out
    assert "nms fails: operator torchvision::nms does not exist\n" in shown
    assert f"to do: {collect_env.NO_NMS}\n" in shown


@pytest.mark.parametrize(
    ("version", "source"),
    [("0.6+mtl.1", "the wheel of third_party"), ("0.6", "upstream's"), ("missing", "on the path")],
)
def test_where_detectron2_comes_from_is_told_by_its_version(monkeypatch, version, source):
    monkeypatch.setattr(collect_env, "_version", lambda distribution: version)
    assert source in rows()["detectron2"]
