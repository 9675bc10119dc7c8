"""The record of a run: what was run, on what, and what came out. Every published figure is read from one."""

import dataclasses
import datetime
import json
import math
import os
import subprocess
import sys
import tempfile
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import detectron2
import torch

PACKAGE_DIR = Path(__file__).resolve().parents[1]
_RESULTS = ("results", "RESULTS.md", "README.md")  # records that are kept, and the pages with their tables


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What ``report.json`` holds.

    results: {group: {metric: value}}, such as {"bbox": {"AP": 49.0}}; NaN where a metric is undefined
    images: {task: number of images scored}
    config: the config file, relative to the checkout
    overrides: KEY VALUE pairs of the command line, flat
    command: what produces it, as shell words
    commit: of the package's checkout; None where it is not one
    dirty: the checkout had changes that are not committed
    seconds: {"train": wall seconds, "eval": wall seconds}
    peak_memory_mib: of the accelerator; None on a CPU
    skipped_images: {file name: times} of the broken images that training replaced
    finished: ISO 8601 time, UTC
    skipped_steps: those not taken, for their loss or gradient was infinite or NaN; 0 in a record that does not tell
    """

    results: dict[str, dict[str, float]]
    images: dict[str, int]
    config: str
    overrides: list[str]
    command: str
    commit: str | None
    dirty: bool
    device: str
    torch: str
    detectron2: str
    seed: int
    iterations: int
    seconds: dict[str, float]
    peak_memory_mib: float | None
    skipped_images: dict[str, int]
    finished: str
    skipped_steps: int = 0


def new_record(
    *,
    results: dict[str, dict[str, float]],
    images: dict[str, int],
    config: str,
    overrides: Sequence[str],
    seed: int,
    iterations: int,
    seconds: dict[str, float],
    device: torch.device | str,
    peak_memory_mib: float | None = None,
    skipped_images: dict[str, int] | None = None,
    skipped_steps: int = 0,
    argv: Sequence[str] | None = None,
    checkout: tuple[str | None, bool] | None = None,
) -> RunRecord:
    """A record of the run that ends now; what the environment tells (commit, versions, command) is filled in.

    Args:
        argv: the program and its arguments; None for ``sys.argv``.
        checkout: ``git_state`` when the run began; None for that of now.
    """
    commit, dirty = checkout or git_state(PACKAGE_DIR)
    return RunRecord(
        results=results,
        images=dict(images),
        config=portable_word(str(config)),
        overrides=[portable_word(str(word)) for word in overrides],
        command=portable_command(sys.argv if argv is None else argv),
        commit=commit,
        dirty=dirty,
        device=device_name(device),
        torch=torch.__version__,
        detectron2=detectron2.__version__,
        seed=seed,
        iterations=iterations,
        seconds=dict(seconds),
        peak_memory_mib=peak_memory_mib,
        skipped_images=dict(skipped_images or {}),
        finished=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        skipped_steps=skipped_steps,
    )


def device_name(device: torch.device | str) -> str:
    """The accelerator's own name, or "cpu"."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def git_state(folder: Path) -> tuple[str | None, bool]:
    """Commit of the checkout that ``folder`` is tracked in, and whether it has uncommitted changes.

    Records that are kept there and the pages with their tables do not count: one run's record does not change the next.
    (None, False) where there is no checkout, as for an installed package, even if the environment that it is
    installed in lies within somebody's checkout.
    """
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(folder, "rev-parse", "HEAD")
        code = (":(top)", *(f":(top,exclude){path}" for path in _RESULTS))
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no", "--", *code))
    except (OSError, subprocess.CalledProcessError):
        return None, False


def short_commit(commit: str | None, dirty: bool) -> str:
    """As tables name it: nine digits, * where there were uncommitted changes; "none" without a checkout."""
    return f"{commit[:9]}{'*' if dirty else ''}" if commit else "none"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def portable_command(argv: Sequence[str]) -> str:
    """The command line as shell words, without the paths of this machine."""
    return shell_line(["python", *(portable_word(word) for word in argv)])


def shell_line(words: Sequence[str]) -> str:
    """The words for a shell, as ``shlex.join`` does it; words with single quotes in double ones, which can be read."""
    return " ".join(f'"{word}"' if "'" in word and not set(word) & set('"\\$`!') else quote(word) for word in words)


def portable_word(word: str) -> str:
    """An absolute path, alone or behind ``--option=``, relative to the working folder or to the checkout.

    Of a path that lies in neither, only the last part stays: where it was is a matter of one machine.
    """
    option, equals, value = word.rpartition("=")
    if not os.path.isabs(value):
        return word
    path = Path(value)
    for root in (Path.cwd(), PACKAGE_DIR.parent):
        if path.is_relative_to(root):
            return f"{option}{equals}{path.relative_to(root)}"
    return f"{option}{equals}{path.name}"


def write_record(path: str | os.PathLike, record: RunRecord) -> None:
    """Write a record as JSON, see :func:`write_json`."""
    write_json(path, dataclasses.asdict(record))


def write_json(path: str | os.PathLike, value: dict[str, Any]) -> None:
    """Write JSON, whole or not at all: a reader never meets a half-written file.

    NaN and infinite values are written as null.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_json_value(value), indent=2, allow_nan=False) + "\n"
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=path.name, suffix=".tmp", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    try:
        os.chmod(file.name, 0o644)  # a temporary file is private to its owner, a record is not
        os.replace(file.name, path)
    except OSError:
        os.unlink(file.name)
        raise


def read_json_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """``{name: what was written}`` of every ``*.json`` in the folder; {} where there is none."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if hasattr(value, "item"):  # numpy and torch scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_record(path: str | os.PathLike) -> RunRecord:
    """Read and check a record; null among the results is NaN again.

    Raises:
        ValueError: no JSON, a key missing, unknown or of another type; the message names file and key.
    """
    with open(path, encoding="utf-8") as file:
        try:
            values = json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not a JSON file ({error}); write the record again.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a {type(values).__name__} found, expected an object with a record's keys.")
    types = typing.get_type_hints(RunRecord)
    optional = {f.name for f in dataclasses.fields(RunRecord) if f.default is not dataclasses.MISSING}
    missing, unknown = types.keys() - values.keys() - optional, values.keys() - types.keys()
    for problem, keys in (("missing", missing), ("unknown", unknown)):
        if keys:
            raise ValueError(f"{path}: {problem} keys {sorted(keys)}; a record has exactly the keys {sorted(types)}.")
    results = values["results"]
    if isinstance(results, dict) and all(isinstance(group, dict) for group in results.values()):
        values["results"] = {
            name: {metric: math.nan if value is None else value for metric, value in group.items()}
            for name, group in results.items()
        }
    for key, expected in types.items():
        if key in values and not _has_type(values[key], expected):
            found = type(values[key]).__name__
            raise ValueError(f"{path}: {key} is a {found} or holds another type, expected {expected}.")
    return RunRecord(**values)


def _has_type(value: Any, expected: Any) -> bool:
    """Whether a JSON value has a type such as dict[str, float], list[str] or str | None."""
    arguments = typing.get_args(expected)
    origin = typing.get_origin(expected)
    if origin is dict:
        return isinstance(value, dict) and all(_has_type(item, arguments[1]) for item in value.values())
    if origin is list:
        return isinstance(value, list) and all(_has_type(item, arguments[0]) for item in value)
    if arguments:  # a union
        return any(_has_type(value, argument) for argument in arguments)
    if expected in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if expected is float else expected)
