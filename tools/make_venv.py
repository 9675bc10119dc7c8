"""Make or complete the virtual environment that `make test` and `make demo` run in.

An environment that is there is kept where its Python runs, and so is a Detectron2 that is installed in it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 13)
ROOT = Path(__file__).resolve().parent.parent

PYTHON_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
RUN_NMS = """
import torch, torchvision
torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}")
"""
FIND_DETECTRON2 = """
import importlib.metadata, importlib.util
if importlib.util.find_spec("detectron2"):
    try:
        print(importlib.metadata.version("detectron2"))
    except importlib.metadata.PackageNotFoundError:
        print("a source tree")
"""

# Only what Python 3.6 can parse stands in this file: an old Python must get as far as check_version.


class SetupError(Exception):
    """One sentence that says what is wrong and what to do."""


def say(text: str) -> None:
    print(f"venv: {text}", flush=True)


def run(*command: str) -> bool:
    return subprocess.run(command, cwd=str(ROOT), stdin=subprocess.DEVNULL, check=False).returncode == 0


def ask(python: str, code: str):
    """What `code` prints when `python` runs it at the repository's root; None where it fails."""
    try:
        answer = subprocess.run(
            [python, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=str(ROOT),
            check=False,
        )
    except OSError:
        return None
    return answer.stdout.decode().strip() if answer.returncode == 0 else None


def pip_install(python: str, *arguments: str) -> None:
    if not run(python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments):
        raise SetupError(f"`pip install {' '.join(arguments)}` failed: its message is above")


def check_version(python: str, version: str) -> None:
    if not OLDEST <= tuple(int(number) for number in version.split(".")) <= NEWEST:
        raise SetupError(
            f"{python} is Python {version}, but mtl_d2 needs 3.10 to 3.13: name another one, as in "
            "`make venv PYTHON=python3.12`, and remove the old environment if it is that one's"
        )


def make_environment(folder: Path) -> str:
    """The Python of the environment in `folder`, which is created where it is missing or does not run."""
    python = str(folder / "bin" / "python")
    version = ask(python, PYTHON_VERSION)
    if version is None:
        version = "{}.{}".format(*sys.version_info)
        check_version(sys.executable, version)
        say(f"creating {folder} with Python {version}")
        if not run(sys.executable, "-m", "venv", "--clear", str(folder)):
            raise SetupError(f"`{sys.executable} -m venv` failed: on Debian and Ubuntu, install python3-venv")
    else:
        say(f"keeping {folder}, Python {version}")
        check_version(python, version)
    if ask(python, "import pip") is None and not run(python, "-m", "ensurepip"):
        raise SetupError(f"{folder} has no pip: remove the folder, or install pip in it")
    return python


def install_torchvision(python: str) -> None:
    """Install torchvision where it does not run yet. It brings the torch that it was built for."""
    if ask(python, RUN_NMS) is None:
        say("installing torchvision and its torch (gigabytes where it comes with CUDA: some minutes)")
        pip_install(python, "torchvision>=0.19")
    seen = ask(python, RUN_NMS)
    if seen is None:
        raise SetupError(
            "torchvision.ops.nms does not run: torch and torchvision are of different builds, run "
            f"`{python} -m pip uninstall torch torchvision` and then `make venv` again"
        )
    say(f"torchvision.ops.nms runs, {seen}")


def install_detectron2(python: str) -> None:
    """Install the wheel of third_party/detectron2, unless another Detectron2 is installed already."""
    found = ask(python, FIND_DETECTRON2)
    if not found:
        say("building Detectron2 from third_party/detectron2, because none is installed")
        pip_install(python, "./third_party/detectron2")
    elif "+mtl" in found:
        say("building Detectron2 from third_party/detectron2 again")
        pip_install(python, "--force-reinstall", "--no-deps", "./third_party/detectron2")
    else:
        say(f"keeping the installed Detectron2, {found}")
    if ask(python, "import detectron2.layers") is None:
        raise SetupError(f"Detectron2 does not import, see `{python} -c 'import detectron2.layers'`")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=".venv", help="the environment's folder (.venv)")
    folder = ROOT / parser.parse_args().folder
    try:
        python = make_environment(folder)
        say("upgrading pip")
        pip_install(python, "--upgrade", "pip")
        install_torchvision(python)
        say("installing mtl_d2 (editable) with its extras dev, fast and balance")
        pip_install(python, "--editable", ".[dev,fast,balance]")
        install_detectron2(python)
    except SetupError as error:
        print(f"venv: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
