#!/usr/bin/env python
"""Make wheelhouse/: the wheels that a machine without a network lacks for mtl_d2 and its tests.

On that machine:  python3 -m pip list --format=freeze > have.txt
Here:             make wheelhouse PY=3.12 HAVE=have.txt
There again:      python3 -m pip install --no-index --no-deps --find-links wheelhouse -r wheelhouse/requirements.txt
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from packaging.specifiers import SpecifierSet
from tqdm import tqdm
from wheel_needs import (
    Have,
    Target,
    Wheel,
    WheelhouseError,
    find_needs,
    is_pure,
    parse_have,
    read_wheel,
    requirements_of,
)

ROOT = Path(__file__).resolve().parent.parent
FALLBACK_DETECTRON2 = ROOT / "third_party" / "detectron2"
LARGE_MB = 60
NOT_FOR_TESTS = ("ruff", "mypy")  # of the extra dev: the lint and the types are not checked there
NOTES = """Wheels for mtl_d2 on Python {python}, {platform}. From the folder that holds this one:

    {install}

--no-deps because requirements.txt is complete, given what the machine had; with --force-reinstall it also replaces
an mtl_d2 of the same version. Then `python3 -m mtl_d2.collect_env` says what is there, and in a checkout of the
project `python3 -m pytest` runs the tests.
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = "{}.{}".format(*sys.version_info)
    parser.add_argument("--python", default=here, help=f"the target's Python, such as 3.12 (default: {here}, this one)")
    parser.add_argument("--platform", default="manylinux2014_x86_64", help="the target's (default: %(default)s)")
    parser.add_argument("--abi", help="the target's (default: cp312 for Python 3.12)")
    parser.add_argument("--have", type=Path, metavar="FILE", help="its `pip list --format=freeze` (default: nothing)")
    parser.add_argument("--output", type=Path, default=Path("wheelhouse"), help="folder (default: %(default)s)")
    return parser.parse_args()


def pip(*arguments: str | Path) -> str | None:
    """Run pip; None where it succeeds, else what it says."""
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip()


def build_wheel(source: Path | str, folder: Path) -> Path:
    """Build one wheel of a source tree, or of a project of the package index, into an empty ``folder``."""
    complaint = pip("wheel", "--wheel-dir", folder, source)
    if complaint is not None:
        raise WheelhouseError(f"{source}: `pip wheel` failed, which needs a package index:\n{complaint}")
    return next(folder.glob("*.whl"))


def build_mtl_d2(folder: Path) -> Path:
    """The wheel of this checkout, built in a copy: setuptools would leave its work, and take up an older one's."""
    source = folder / "source"
    shutil.copytree(ROOT / "mtl_d2", source / "mtl_d2", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return build_wheel(source, folder)


def own_wheels(have: Have, work: Path) -> list[Wheel]:
    """mtl_d2's wheel, and Detectron2's where the target has none."""
    (work / "mtl_d2").mkdir()
    wheels = [read_wheel(build_mtl_d2(work / "mtl_d2"))]
    if "detectron2" not in have:
        (work / "detectron2").mkdir()
        wheels.append(read_wheel(build_wheel(FALLBACK_DETECTRON2, work / "detectron2")))
    return wheels


def make_fetch(target: Target, work: Path, progress: Callable[[str], None]) -> Callable[[str, SpecifierSet], Wheel]:
    """``fetch(name, specifier)``: the newest wheel for the target; one built here where only a source is published."""

    def fetch(name: str, specifier: SpecifierSet) -> Wheel:
        progress(name)
        wanted = f"{name}{specifier}"
        folder = Path(tempfile.mkdtemp(dir=work))
        if pip("download", "--only-binary=:all:", *target.pip_options(), "--dest", folder, wanted) is None:
            return read_wheel(next(folder.glob("*.whl")))
        built = build_wheel(wanted, folder)
        if not is_pure(built):
            raise WheelhouseError(
                f"{name}: the index has no wheel of {wanted} for Python {target.python} on {target.platform}, and "
                f"its source gives {built.name}, which is for this machine alone: expected a pure Python package "
                "(py3-none-any); take another PY or a newer PLATFORM, such as manylinux_2_28_x86_64."
            )
        return read_wheel(built)

    return fetch


def check_output(folder: Path) -> None:
    others = [
        p.name for p in folder.glob("*") if p.suffix != ".whl" and p.name not in ("requirements.txt", "README.txt")
    ]
    if others:
        raise WheelhouseError(
            f"{folder}: found {others[0]}, expected a wheelhouse or no folder; name another --output."
        )


def write(wheels: list[Wheel], target: Target, output: Path) -> None:
    """Put the wheels, requirements.txt and README.txt in ``output``, in the place of an earlier wheelhouse."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    for wheel in wheels:
        shutil.copy(wheel.path, output)
    pins = "".join(f"{wheel.name}=={wheel.version}\n" for wheel in wheels)
    (output / "requirements.txt").write_text(pins)
    install = (
        f"python3 -m pip install --no-index --no-deps --find-links {output.name} -r {output.name}/requirements.txt"
    )
    notes = NOTES.format(python=target.python, platform=target.platform, install=install)
    (output / "README.txt").write_text(notes)
    print_table(wheels)
    print(f"\nCarry {output} to the target, and there, from the folder that holds it:\n\n    {install}\n")


def print_table(wheels: list[Wheel]) -> None:
    sizes = {wheel.name: wheel.path.stat().st_size / 1e6 for wheel in wheels}
    for wheel in sorted(wheels, key=lambda wheel: -sizes[wheel.name]):
        print(f"{wheel.name:32} {wheel.version!s:24} {sizes[wheel.name]:8.2f} MB")
    total = sum(sizes.values())
    print(f"{'total':32} {f'{len(wheels)} wheels':24} {total:8.2f} MB")
    if total > LARGE_MB:
        print(
            f"wheelhouse: {total:.0f} MB, more than {LARGE_MB}: what the target has already is left out where HAVE "
            "names it.",
            file=sys.stderr,
        )


def make(args: argparse.Namespace) -> int:
    """Make the folder; returns the exit status: 1 where the target has a package that no wheel here can mend."""
    target = Target(args.python, args.platform, args.abi)
    have = parse_have(args.have.read_text(encoding="utf-8-sig"), str(args.have)) if args.have else {}
    check_output(args.output)
    with tempfile.TemporaryDirectory() as work, tqdm(unit="wheel", desc="wheelhouse", disable=None) as bar:

        def progress(name: str) -> None:
            bar.set_postfix_str(name)
            bar.update()

        own = own_wheels(have, Path(work))
        roots = [
            (requirement, wheel.name)
            for wheel in own
            for requirement in requirements_of(wheel, ["dev"], target.environment())
            if requirement.name not in NOT_FOR_TESTS
        ]
        needs = find_needs(roots, have, target.environment(), make_fetch(target, Path(work), progress))
        bar.close()
        write([*own, *sorted(needs.wheels.values(), key=lambda wheel: wheel.name)], target, args.output)
    for note in (*needs.replaced.values(), *needs.unsuitable.values()):
        print(f"wheelhouse: {note}", file=sys.stderr)
    return 1 if needs.unsuitable else 0


if __name__ == "__main__":
    try:
        sys.exit(make(parse_args()))
    except (WheelhouseError, OSError) as error:
        sys.exit(f"wheelhouse: {error}")
