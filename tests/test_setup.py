"""Installing: the fallback Detectron2 wheel, the requirements, make_venv's decisions, the Makefile."""

import base64
import hashlib
import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "third_party" / "detectron2"


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def patches(monkeypatch) -> ModuleType:
    module = load(RECIPE / "patches.py", "patches")
    monkeypatch.setitem(sys.modules, "patches", module)  # backend.py imports it by this name
    return module


@pytest.fixture
def backend(patches) -> ModuleType:
    return load(RECIPE / "backend.py", "mtl_d2_test_backend")


@pytest.fixture
def make_venv() -> ModuleType:
    return load(ROOT / "tools" / "make_venv.py", "mtl_d2_test_make_venv")


def synthetic_files(patches: ModuleType) -> dict[str, bytes]:
    """Files in which every text of the patch table occurs as often as it says, and nothing else of note."""
    texts: dict[str, str] = {}
    for patch in patches.PATCHES:
        for path, count in patch.where.items():
            texts[path] = texts.get(path, "") + f"{patch.old}\n#\n" * count
    return {path: text.encode() for path, text in texts.items()}


# --- patches


def test_a_patch_replaces_each_place_and_marks_only_the_changed_file(patches):
    table = (patches.Patch("why", "old", "new", {"a.py": 2}),)
    files = {"a.py": b"old = old\n", "b.py": b"old\n"}
    patches.apply(files, table)
    assert files == {"a.py": b"new = new\n" + patches.CHANGED_NOTE.encode(), "b.py": b"old\n"}


@pytest.mark.parametrize(("text", "found"), [("nothing\n", 0), ("old\n", 1), ("old old old\n", 3)])
def test_a_patch_whose_count_differs_is_an_error_that_says_where_and_how(patches, text, found):
    table = (patches.Patch("the reason", "old", "new", {"a.py": 2}),)
    with pytest.raises(ValueError, match=rf"a\.py: 'old' occurs {found} times, expected 2 \(the reason\)"):
        patches.apply({"a.py": text.encode()}, table)


def test_a_patch_of_a_missing_file_is_an_error(patches):
    with pytest.raises(ValueError, match=r"a\.py: missing, but has a patch \(why\)"):
        patches.apply({}, (patches.Patch("why", "old", "new", {"a.py": 1}),))


def test_the_whole_table_applies_once_and_not_twice(patches):
    files = synthetic_files(patches)
    patches.apply(files)
    assert all(text.endswith(patches.CHANGED_NOTE.encode()) for text in files.values())
    assert not any(re.search(rb"np\.(int|float|str|bool)\b|Image\.LINEAR|pkg_resources", f) for f in files.values())
    with pytest.raises(ValueError, match="expected"):
        patches.apply(files)


# --- the wheel


def test_the_wheel_holds_package_projects_licence_and_a_true_record(backend, patches, tmp_path, monkeypatch):
    source = tmp_path / "sdist"
    projects = {f"detectron2/projects/{name}/": folder for name, folder in backend.PROJECTS.items()}
    for path, content in {**synthetic_files(patches), "LICENSE": b"licence\n"}.items():
        prefix = next((p for p in projects if path.startswith(p)), None)
        target = source / (projects[prefix] + "/" + path[len(prefix) :] if prefix else path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    monkeypatch.setattr(backend, "fetch_sdist", lambda folder: source)

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    name = backend.build_wheel(str(tmp_path / "one"))
    assert name == backend.build_wheel(str(tmp_path / "two")) == "detectron2-0.6+mtl.1-py3-none-any.whl"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    with zipfile.ZipFile(tmp_path / "one" / name) as wheel:
        content = {path: wheel.read(path) for path in wheel.namelist()}
    record = content.pop(f"{backend.INFO}/RECORD").decode().splitlines()
    assert record.pop() == f"{backend.INFO}/RECORD,,"
    for line, (path, data) in zip(record, content.items(), strict=True):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert line == f"{path},sha256={digest},{len(data)}"
    assert content[f"{backend.INFO}/LICENSE"] == b"licence\n"
    assert "detectron2/projects/deeplab/lr_scheduler.py" in content
    metadata = content[f"{backend.INFO}/METADATA"].decode()
    assert "Name: detectron2\nVersion: 0.6+mtl.1\n" in metadata
    assert "Requires-Dist: torch" not in metadata


def test_a_failing_client_is_reported_with_what_to_check(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("UV", shutil.which("false") or "/bin/false")
    with pytest.raises(RuntimeError, match=r"uv could not fetch what .*sdist\.txt pins .*index is reachable"):
        backend.fetch_sdist(tmp_path)


def test_the_client_follows_the_caller_and_loses_its_hook_variables(backend, monkeypatch):
    monkeypatch.setenv("_PYPROJECT_HOOKS_BUILD_BACKEND", "backend")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = backend._client_environment()
    assert "_PYPROJECT_HOOKS_BUILD_BACKEND" not in environment
    assert environment["PYTHONPATH"].split(":") == [str(RECIPE / "fetch_stub"), "elsewhere"]
    monkeypatch.setenv("UV", "uv")
    assert backend.get_requires_for_build_wheel() == []
    monkeypatch.delenv("UV")
    assert backend.get_requires_for_build_wheel() == ["pip"]


def test_the_source_distribution_is_pinned_by_hash():
    assert re.fullmatch(r"pb1-detectron2==0\.6 --hash=sha256:[0-9a-f]{64}\n", (RECIPE / "sdist.txt").read_text())


def test_the_stand_in_for_setuptools_packs_the_raw_files(tmp_path, monkeypatch):
    stub = load(RECIPE / "fetch_stub" / "setuptools" / "build_meta.py", "mtl_d2_test_stub").__legacy__
    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "setup.py").write_text("raise RuntimeError('not to be run')\n")
    (tmp_path / "source" / "sub" / "data.txt").write_text("data\n")
    monkeypatch.chdir(tmp_path / "source")
    name = stub.build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert {"sdist/setup.py", "sdist/sub/data.txt"} < set(wheel.namelist())


@pytest.mark.slow
def test_pip_builds_a_wheel_that_imports(tmp_path):
    """Needs a package index."""
    wheel_command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
    ]
    subprocess.run([*wheel_command, str(RECIPE)], check=True, cwd=tmp_path)
    wheel = tmp_path / "detectron2-0.6+mtl.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    modules = "layers, data, evaluation, model_zoo, export, projects.point_rend, projects.deeplab"
    code = f"import sys; sys.path.insert(0, 'site')\nfrom detectron2 import {modules.replace('projects.', '')}"
    code = code.replace(", point_rend, deeplab", "\nfrom detectron2.projects import point_rend, deeplab\n")
    code += "import detectron2; print(detectron2.__file__)"
    seen = subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert seen.stdout.strip().endswith("site/detectron2/__init__.py")


# --- setup.py, tools/make_venv.py, Makefile


def test_detectron2_is_no_requirement(monkeypatch):
    setuptools = pytest.importorskip("setuptools")
    given: dict = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path(str(ROOT / "setup.py"))
    extras = [requirement for extra in given["extras_require"].values() for requirement in extra]
    assert not [r for r in [*given["install_requires"], *extras] if "detectron2" in r]
    assert set(given["extras_require"]) == {"fast", "balance", "dev"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", given["version"])


@pytest.mark.parametrize("version", ["3.9", "3.14", "2.7", "4.0"])
def test_an_unsupported_python_is_refused_in_a_sentence(make_venv, version):
    with pytest.raises(make_venv.SetupError, match=rf"python is Python {version}, but mtl_d2 needs 3\.10 to 3\.13"):
        make_venv.check_version("python", version)


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_a_supported_python_is_taken(make_venv, version):
    make_venv.check_version("python", version)


def test_a_missing_or_failing_python_gives_no_answer(make_venv, tmp_path):
    assert make_venv.ask(str(tmp_path / "python"), "print(1)") is None
    assert make_venv.ask(sys.executable, "raise SystemExit(1)") is None
    assert make_venv.ask(sys.executable, "print(1)") == "1"


@pytest.mark.parametrize(
    ("found", "installed"),
    [
        ("", [("./third_party/detectron2",)]),
        ("0.6+mtl.1", [("--force-reinstall", "--no-deps", "./third_party/detectron2")]),
        ("0.6", []),
        ("0.6+cu128", []),
        ("a source tree", []),
    ],
)
def test_an_installed_upstream_detectron2_is_never_overwritten(make_venv, monkeypatch, found, installed):
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(make_venv, "ask", lambda python, code: found if code == make_venv.FIND_DETECTRON2 else "")
    monkeypatch.setattr(make_venv, "pip_install", lambda python, *arguments: calls.append(arguments))
    make_venv.install_detectron2("python")
    assert calls == installed


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_demo_runs_its_tools_in_order_on_its_own_datasets():
    shown = subprocess.run(["make", "-n", "demo"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    tools = re.findall(r"tools/(\w+)\.py", shown.replace("tools/make_venv.py", ""))
    assert tools == ["make_shapes", "train_net", "draw_panels", "edge_floor", "plot_run", "write_results"]
    assert f"{ROOT}/datasets/shapes" in shown


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_alone_lists_the_targets():
    shown = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    targets = re.findall(r"^  make ([\w-]+)", shown, re.MULTILINE)
    assert targets == [
        "help",
        "venv",
        "test",
        "test-slow",
        "demo",
        "compare",
        "lint",
        "typecheck",
        "wheelhouse",
        "clean",
    ]
