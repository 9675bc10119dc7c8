"""The wheelhouse: what a target has is told from what it lacks, for its Python and not for this one."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))

import make_wheelhouse  # noqa: E402
import wheel_needs  # noqa: E402
from wheel_needs import Target, WheelhouseError, find_needs, parse_have, read_wheel  # noqa: E402


def write_wheel(folder: Path, name: str, version: str, requires=(), tag="py3-none-any") -> Path:
    path = folder / f"{name.replace('-', '_')}-{version}-{tag}.whl"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name.replace('-', '_')}-{version}.dist-info/METADATA", "\n".join(lines) + "\n\ntext")
    return path


class Index:
    """A package index in a folder: ``fetch`` gives the newest release, and remembers what was asked for."""

    def __init__(self, folder: Path, releases: dict[str, list[str]]) -> None:
        self.asked: list[str] = []
        self.wheels: dict[str, list] = {}
        for release, requires in releases.items():
            name, version = release.split()
            self.wheels.setdefault(name, []).append(read_wheel(write_wheel(folder, name, version, requires)))

    def fetch(self, name: str, specifier: SpecifierSet):
        self.asked.append(name)
        fitting = [w for w in self.wheels.get(name, ()) if specifier.contains(w.version)]
        if not fitting:
            raise WheelhouseError(f"no {name}{specifier}")
        return max(fitting, key=lambda w: w.version)


def needs_of(index: Index, roots: list[str], have: str = "", python: str = "3.12") -> wheel_needs.Needs:
    environment = Target(python).environment()
    return find_needs([(Requirement(r), "mtl_d2") for r in roots], parse_have(have), environment, index.fetch)


def versions(needs: wheel_needs.Needs) -> dict[str, str]:
    return {name: str(wheel.version) for name, wheel in needs.wheels.items()}


# --- HAVE


def test_all_forms_of_a_frozen_list_are_read():
    text = (
        "# a comment\r\n"
        "torch==2.5.1+cu124\r\n"
        "Typing_Extensions==4.12.2  # via torch\r\n"
        "fvcore @ file:fvcore\r\n"
        "shapely @ file:///wheels/shapely-2.0.6-cp312-cp312-manylinux_2_17_x86_64.whl#sha256=ab\r\n"
        "-e git+https://example.org/d2.git@abc#egg=detectron2\r\n"
        "# Editable install with no version control (mtl_d2==0.1.0)\r\n"
        "-e ../mtl_d2\r\n"
        "odd===not.a.version!\r\n"
        "--find-links wheels\r\n"
        "\r\n"
        "opencv-python==4.10.0.84"
    )
    assert parse_have(text) == {
        "torch": Version("2.5.1+cu124"),
        "typing-extensions": Version("4.12.2"),
        "fvcore": None,
        "shapely": Version("2.0.6"),
        "detectron2": None,
        "mtl-d2": Version("0.1.0"),
        "odd": None,
        "opencv-python-headless": Version("4.10.0.84"),
    }


def test_another_form_is_refused_with_its_line():
    with pytest.raises(
        WheelhouseError, match=r"have.txt, line 2: found 'numpy   2.1.0', expected name==version; .*freeze"
    ):
        parse_have("torch==2.5\nnumpy   2.1.0\n", "have.txt")


# --- what is needed


def test_what_the_target_has_is_neither_fetched_nor_followed(tmp_path):
    index = Index(
        tmp_path, {"fvcore 0.1.5": ["yacs>=0.1.6", "numpy", "tqdm"], "yacs 0.1.8": ["PyYAML"], "pyyaml 6.0": []}
    )
    needs = needs_of(index, ["torch>=2.4", "numpy>=1.26", "fvcore"], "torch==2.5.1+cu124\nnumpy==2.1.0\ntqdm==4.66")
    assert versions(needs) == {"fvcore": "0.1.5", "yacs": "0.1.8", "pyyaml": "6.0"}
    assert not (needs.unsuitable or needs.replaced)
    assert "torch" not in index.asked and "tqdm" not in index.asked


def test_without_have_everything_is_fetched(tmp_path):
    index = Index(tmp_path, {"torch 2.9": ["sympy"], "sympy 1.13": []})
    assert versions(needs_of(index, ["torch>=2.4"])) == {"torch": "2.9", "sympy": "1.13"}


@pytest.mark.parametrize(("python", "fetched"), [("3.10", {"pytest", "tomli"}), ("3.12", {"pytest"})])
def test_markers_are_those_of_the_target_and_not_of_this_python(tmp_path, python, fetched):
    requires = [
        "tomli>=1; python_version < '3.11'",
        "colorama>=0.4; sys_platform == 'win32'",
        "docs>=1; extra == 'docs'",
    ]
    index = Index(tmp_path, {"pytest 8.3": requires, "tomli 2.0": []})
    assert set(versions(needs_of(index, ["pytest>=8"], python=python))) == fetched


def test_an_extra_that_is_asked_for_later_is_followed_too(tmp_path):
    releases = {"a 1": ["c; extra == 'fast'"], "b 1": ["a[fast]"], "c 1": []}
    assert set(versions(needs_of(Index(tmp_path, releases), ["a", "b"]))) == {"a", "b", "c"}


def test_requirements_that_come_later_choose_again(tmp_path):
    releases = {"omegaconf 2.3": [], "omegaconf 2.4": [], "hydra 1.3": ["omegaconf<2.4"]}
    assert versions(needs_of(Index(tmp_path, releases), ["omegaconf>=2.1", "hydra"]))["omegaconf"] == "2.3"


@pytest.mark.parametrize("name", ["opencv-python", "opencv-python-headless", "opencv-contrib-python"])
def test_every_opencv_is_the_same_module(tmp_path, name):
    index = Index(tmp_path, {})
    needs = needs_of(index, ["opencv-python-headless>=4.9", "opencv-python"], f"{name}==4.10.0.84")
    assert versions(needs) == {} and not needs.unsuitable


def test_two_opencvs_are_asked_for_and_one_is_brought(tmp_path):
    index = Index(tmp_path, {"opencv-python-headless 4.12": []})
    assert set(versions(needs_of(index, ["opencv-python-headless>=4.9", "opencv-python"]))) == {
        "opencv-python-headless"
    }


def test_an_unsuitable_torch_stays_and_is_named_once(tmp_path):
    needs = needs_of(Index(tmp_path, {"torch 2.9": []}), ["torch>=2.4", "torch>=2.3"], "torch==2.2.0+cu118")
    assert versions(needs) == {}
    assert list(needs.unsuitable.values()) == [
        "torch 2.2.0+cu118 is on the target, but mtl_d2 needs >=2.4: it is left as it is; install a torch that fits "
        "there, from where the present one came."
    ]


def test_an_unsuitable_package_of_another_kind_is_replaced_and_named(tmp_path):
    needs = needs_of(Index(tmp_path, {"pillow 11.0": []}), ["Pillow>=9.5"], "Pillow==8.4.0")
    assert versions(needs) == {"pillow": "11.0"}
    assert list(needs.replaced.values()) == [
        "pillow 8.4.0 is on the target, but mtl_d2 needs >=9.5: the wheelhouse replaces it."
    ]


def test_an_older_release_is_taken_where_the_newest_needs_another_numpy(tmp_path):
    releases = {"scikit-image 0.25": ["numpy>=2"], "scikit-image 0.24": ["numpy>=1.23"]}
    index = Index(tmp_path, releases)
    assert versions(needs_of(index, ["scikit-image>=0.22"], "numpy==1.26.4")) == {"scikit-image": "0.24"}
    with pytest.raises(WheelhouseError, match=r"Newer releases of scikit-image do not fit the target's numpy 1.26.4"):
        needs_of(index, ["scikit-image>=0.25"], "numpy==1.26.4")


# --- the target


@pytest.mark.parametrize("python", ["3.9", "3.14", "three"])
def test_an_unsupported_python_is_refused(python):
    with pytest.raises(WheelhouseError, match=rf"PY={python}: expected one of 3.10"):
        Target(python)


@pytest.mark.parametrize("platform", ["linux", "win_amd64", "macosx_11_0_arm64", "manylinux2014"])
def test_a_platform_that_is_no_manylinux_is_refused(platform):
    with pytest.raises(WheelhouseError, match=rf"PLATFORM={platform}: expected one such as manylinux2014_x86_64"):
        Target("3.12", platform)


def test_a_platform_takes_the_wheels_of_older_ones_and_not_of_newer():
    options = Target("3.12.1", "manylinux_2_28_aarch64").pip_options()
    platforms = [options[i + 1] for i, word in enumerate(options) if word == "--platform"]
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(platforms)
    assert "manylinux_2_31_aarch64" not in platforms
    assert options[:2] == ["--python-version", "3.12"] and "cp312" in options
    older = Target("3.12").pip_options()
    assert "manylinux_2_17_x86_64" in older and "manylinux_2_28_x86_64" not in older


def test_a_source_that_builds_for_this_machine_only_is_named(tmp_path, monkeypatch):
    def pip(command, *arguments):
        if command == "download":
            return "no matching distribution"
        write_wheel(
            Path(arguments[arguments.index("--wheel-dir") + 1]), "speedy", "1.0", tag="cp312-cp312-linux_x86_64"
        )
        return None

    monkeypatch.setattr(make_wheelhouse, "pip", pip)
    fetch = make_wheelhouse.make_fetch(Target("3.12"), tmp_path, lambda name: None)
    with pytest.raises(
        WheelhouseError, match=r"speedy: .* gives speedy-1.0-cp312-cp312-linux_x86_64.whl, .*pure Python"
    ):
        fetch("speedy", SpecifierSet(">=1"))


# --- the folder


def test_the_folder_has_exact_pins_and_the_command(tmp_path, capsys):
    wheels = [
        read_wheel(write_wheel(tmp_path, "detectron2", "0.6+mtl.1")),
        read_wheel(write_wheel(tmp_path, "yacs", "0.1.8")),
    ]
    make_wheelhouse.write(wheels, Target("3.12"), tmp_path / "wheelhouse")
    folder = tmp_path / "wheelhouse"
    assert (folder / "requirements.txt").read_text() == "detectron2==0.6+mtl.1\nyacs==0.1.8\n"
    command = "pip install --no-index --no-deps --find-links wheelhouse -r wheelhouse/requirements.txt"
    assert command in (folder / "README.txt").read_text()
    printed = capsys.readouterr()
    assert command in printed.out and "2 wheels" in printed.out and printed.err == ""
    make_wheelhouse.check_output(folder)
    (folder / "thesis.tex").touch()
    with pytest.raises(WheelhouseError, match="found thesis.tex"):
        make_wheelhouse.check_output(folder)


def test_a_large_folder_is_warned_about(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(make_wheelhouse, "LARGE_MB", 0)
    make_wheelhouse.print_table([read_wheel(write_wheel(tmp_path, "yacs", "0.1.8"))])
    assert "more than 0" in capsys.readouterr().err


def test_help_and_a_missing_file_need_no_network(tmp_path):
    command = [sys.executable, str(TOOLS / "make_wheelhouse.py")]
    shown = subprocess.run([*command, "--help"], check=True, capture_output=True, text=True).stdout
    assert "pip list --format=freeze" in shown
    missing = subprocess.run(
        [*command, "--have", str(tmp_path / "no.txt")], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1 and "no.txt" in missing.stderr and "Traceback" not in missing.stderr


@pytest.mark.slow
def test_the_wheelhouse_of_this_environment_holds_the_project_alone(tmp_path):
    """Needs a package index, for what builds the wheels."""
    have = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout
    kept = [line for line in have.splitlines() if line.split("==")[0] not in ("detectron2", "fvcore", "pytest")]
    (tmp_path / "have.txt").write_text("\n".join(kept))
    folder = tmp_path / "wheelhouse"
    command = [sys.executable, str(TOOLS / "make_wheelhouse.py"), "--have", str(tmp_path / "have.txt")]
    done = subprocess.run([*command, "--output", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {line.split("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()}
    assert names == {"mtl-d2", "detectron2", "fvcore", "pytest"}
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(tmp_path / "site")]
    links = ["--find-links", str(folder), "-r", str(folder / "requirements.txt")]
    subprocess.run([sys.executable, *install, *links], check=True, cwd=tmp_path)
    code = "import mtl_d2, detectron2.layers, fvcore; print(mtl_d2.__file__)"
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    seen = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert str(tmp_path / "site") in seen.stdout
