"""A PEP 517 build backend: fetch the pinned source distribution, apply patches.PATCHES, write a wheel.

Only the standard library is used, and no torch. The client that called the backend (uv, else pip) also
does the fetching, so that its index, proxy, credentials and hash check hold here too.
"""

import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import patches

HERE = Path(__file__).resolve().parent
NAME = "detectron2"
VERSION = "0.6+mtl.1"  # with a local label: satisfies ==0.6, cannot be mistaken for an upstream release
INFO = f"{NAME}-{VERSION}.dist-info"
WHEEL_NAME = f"{NAME}-{VERSION}-py3-none-any.whl"
WHEEL_DATE = (2021, 11, 15, 0, 0, 0)  # of v0.6; fixed, so that the same input gives the same wheel
# v0.6's own list without its upper bound on iopath, and without black, future, pydot and panopticapi (a URL
# there): nothing that mtl_d2 uses needs them.
REQUIRES = (
    "Pillow>=7.1",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7",
    "omegaconf>=2.1,<2.4",
    "hydra-core>=1.1,<2",
)
# Upstream's setup.py installs these three projects as detectron2.projects.<name>.
PROJECTS = {
    "point_rend": "projects/PointRend/point_rend",
    "deeplab": "projects/DeepLab/deeplab",
    "panoptic_deeplab": "projects/Panoptic-DeepLab/panoptic_deeplab",
}
METADATA = "\n".join(
    [
        "Metadata-Version: 2.1",
        f"Name: {NAME}",
        f"Version: {VERSION}",
        "Summary: Detectron2 v0.6, its Python part, patched for current dependencies",
        "License: Apache-2.0",
        "Requires-Python: >=3.10",
        *(f"Requires-Dist: {requirement}" for requirement in REQUIRES),
        "",
    ]
)
WHEEL = "Wheel-Version: 1.0\nGenerator: mtl_d2 third_party\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class UnsupportedOperation(Exception):
    """What PEP 517 asks a backend to raise for a hook that it cannot serve."""


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    return [] if os.environ.get("UV") else ["pip"]  # the client that fetches; uv names itself in $UV


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict | None = None) -> str:
    info = Path(metadata_directory, INFO)
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "WHEEL").write_text(WHEEL)
    return INFO


def build_wheel(
    wheel_directory: str, config_settings: dict | None = None, metadata_directory: str | None = None
) -> str:
    """Write the wheel into `wheel_directory`; returns its file name."""
    with tempfile.TemporaryDirectory() as folder:
        files = collect_files(fetch_sdist(Path(folder)))
    patches.apply(files)
    files[f"{INFO}/METADATA"] = METADATA.encode()
    files[f"{INFO}/WHEEL"] = WHEEL.encode()
    write_wheel(Path(wheel_directory, WHEEL_NAME), files)
    return WHEEL_NAME


def build_sdist(sdist_directory: str, config_settings: dict | None = None) -> str:
    raise UnsupportedOperation("this folder is a recipe, not a source tree: build a wheel from it (--wheel)")


def fetch_sdist(folder: Path) -> Path:
    """Have the client unpack the source distribution of sdist.txt; returns the folder with its files.

    Raises:
        RuntimeError: the client could not get it, or its sha256 is not that of sdist.txt.
    """
    uv = os.environ.get("UV")
    if uv:
        client = [uv, "pip", "install", "--python", sys.executable]
    else:
        client = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    # --no-cache-dir: what is built here holds raw files and must not stay in the client's cache of wheels.
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--no-binary", ":all:"]
    pinned = ["--require-hashes", "-r", str(HERE / "sdist.txt")]
    command = [*client, *options, *pinned, "--target", str(folder)]
    if subprocess.run(command, env=_client_environment(), check=False).returncode != 0:
        raise RuntimeError(
            f"{'uv' if uv else 'pip'} could not fetch what {HERE / 'sdist.txt'} pins (its message is above): "
            "check that the package index is reachable, and that it is set by an environment variable or a "
            "configuration file, because an option such as --index-url does not reach this step"
        )
    return folder / "sdist"


def _client_environment() -> dict[str, str]:
    """The environment of the inner client: the stand-in setuptools first, no outer hooks."""
    # The outer pip's variables would send the inner pip's hooks to this folder.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("_PYPROJECT_HOOKS", "PEP517_"))}
    env.update(PIP_USE_PEP517="1", PIP_USER="0")
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE / "fetch_stub"), env.get("PYTHONPATH")]))
    return env


def collect_files(source: Path) -> dict[str, bytes]:
    """{path in the wheel: content} of the unpacked source distribution, unpatched, with its licence."""
    files = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted((source / NAME).rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    }
    for project, folder in PROJECTS.items():
        for path in sorted((source / folder).rglob("*.py")):
            inside = path.relative_to(source / folder).as_posix()
            files[f"{NAME}/projects/{project}/{inside}"] = path.read_bytes()
    files[f"{INFO}/LICENSE"] = (source / "LICENSE").read_bytes()
    return files


def write_wheel(target: Path, files: dict[str, bytes]) -> None:
    """Zip `files` ({path: content}) and their RECORD, with fixed dates and modes."""
    record = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(content)}\n")
    record.append(f"{INFO}/RECORD,,\n")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in [*files.items(), (f"{INFO}/RECORD", "".join(record).encode())]:
            entry = zipfile.ZipInfo(path, WHEEL_DATE)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)
