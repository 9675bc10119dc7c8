"""What stands in the YAML files that describe several trainings: checked values, and sentences for wrong ones."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..engine.defaults import flat

Overrides = dict[str, Any]  # {dotted config key: value}

# What a description sets itself, so that all networks see the same images, and val is read at the end only.
DATASETS = ("DATASETS.TRAIN", "DATASETS.TEST")
OWN_KEYS = (
    *("OUTPUT_DIR", "SEED", *DATASETS),
    *("TEST.EVAL_PERIOD", "TEST.MTL.PER_IMAGE", "SOLVER.MTL.BEST_METRIC"),
)


class ComparisonError(ValueError):
    """A comparison cannot be made as it is described; the message says where and what to do."""


def read_yaml(path: Path, keys: Mapping[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    """The mapping of a YAML file.

    Args:
        keys: ``{key: type or types of its value}``.
        required: keys that have to be there.

    Raises:
        ComparisonError: no YAML, or a key that is unknown, missing, or of another type.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ComparisonError(f"{path}: cannot be read ({error.strerror}); name the YAML of a comparison.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ComparisonError(f"{path}: not plain YAML ({' '.join(str(error).split())}); correct it.") from error
    return checked(loaded, keys, required, str(path))


def check_only(only: Collection[str], known: Sequence[str], where: str) -> None:
    """Raise ComparisonError for a name of ``--only`` that ``where`` does not have."""
    for name in only:
        if name not in known:
            raise ComparisonError(f"--only {name}: no such network in {where}: {', '.join(known)}.")


def checked(loaded: Any, keys: Mapping[str, Any], required: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(loaded, dict):
        raise ComparisonError(f"{where}: found {kind_of(loaded)}, expected a mapping with the keys {', '.join(keys)}.")
    for key in loaded:
        if key not in keys:
            raise ComparisonError(f"{where}: {key!r} is no key; expected {', '.join(keys)}.")
    for key in required:
        if key not in loaded:
            raise ComparisonError(f"{where}: no {key!r}; add it.")
    for key, value in loaded.items():
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            kinds = keys[key] if isinstance(keys[key], tuple) else (keys[key],)
            expected = " or ".join(f"a {kind.__name__}" for kind in kinds)
            raise ComparisonError(f"{where}: {key!r}: found {kind_of(value)}, expected {expected}.")
    return loaded


def kind_of(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}, {value!r}"


def config_overrides(loaded: Any, where: str, allowed: tuple[str, ...] = ()) -> Overrides:
    if not isinstance(loaded, dict):
        raise ComparisonError(f"{where}: found {kind_of(loaded)}, expected config keys with their values.")
    result = flat(loaded)
    stages = [stage for stage in result.get("SOLVER.MTL.STAGES") or () if isinstance(stage, dict)]
    for key in (*result, *(key for stage in stages for key in flat(stage))):
        if key in OWN_KEYS and key not in allowed:
            raise ComparisonError(f"{where}: {key} is set by the comparison itself; remove it.")
    return result


def seeds_of(values: list, path: Path) -> tuple[int, ...]:
    if not values or any(not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 for seed in values):
        raise ComparisonError(f"{path}: 'seeds': found {values}, expected one or more integers of 0 or more.")
    if len(set(values)) < len(values):
        raise ComparisonError(f"{path}: 'seeds': found {values}, expected each once: runs of one seed are the same.")
    return tuple(values)


def positive(values: Mapping[str, Any], key: str, path: Path) -> int:
    number = values.get(key, 1)
    if number < 1:
        raise ComparisonError(f"{path}: {key!r}: found {number}, expected 1 or more.")
    return number
