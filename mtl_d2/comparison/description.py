"""A comparison described by a small YAML file: which networks are trained, and what is held against what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

Role = Literal["reference", "joint", "grid"]
Overrides = dict[str, Any]  # {dotted config key: value}

ROLES: dict[str, Role] = {"references": "reference", "joint": "joint", "grid": "grid"}  # by key of the file

KEYS = {
    "config": str,
    "seeds": list,
    "references": dict,
    "joint": dict,
    "grid": dict,
    "balancers": list,
    "search": (dict, str),
    "overrides": dict,
    "processes": int,
    "threads": int,
    "note": str,
}
REQUIRED = ("config", "seeds", "references", "search")
SEARCH_KEYS = {"folds": int, "values": dict, "overrides": dict, "seed": int}
# What the comparison sets itself, so that all networks see the same images, and val is read at the end only.
DATASETS = ("DATASETS.TRAIN", "DATASETS.TEST")
OWN_KEYS = (
    *("OUTPUT_DIR", "SEED", *DATASETS),
    *("TEST.EVAL_PERIOD", "TEST.MTL.PER_IMAGE", "SOLVER.MTL.BEST_METRIC"),
)


class ComparisonError(ValueError):
    """A comparison cannot be made as it is described; the message says where and what to do."""


@dataclass(frozen=True)
class Candidate:
    """A network that is trained.

    role: "reference" of a task; "joint"; or "grid", one of the tuned fixed weights.
    is_balancer: held against the grid.
    """

    name: str
    role: Role
    overrides: Overrides
    is_balancer: bool = False


@dataclass(frozen=True)
class Search:
    """Every value of every key in ``values`` with every other, on each of ``folds`` folds of the training images.

    overrides: of the runs of the search, such as a shorter SOLVER.MAX_ITER.
    seed: of the permutation that makes the folds.
    """

    folds: int
    values: dict[str, list]
    overrides: Overrides = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """What a YAML file describes; see ``configs/compare/shapes.yaml``.

    name: the file's, without its ending.
    config: path of the base config.
    overrides: of all runs.
    search: None where nothing is searched.
    processes, threads: of one training.
    note: what the reader of the table has to know of the data.
    """

    name: str
    config: str
    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    search: Search | None
    overrides: Overrides = field(default_factory=dict)
    processes: int = 1
    threads: int = 1
    note: str = ""

    def of_role(self, *roles: Role) -> list[Candidate]:
        return [candidate for candidate in self.candidates if candidate.role in roles]


def read_comparison(path: Path) -> Comparison:
    """Read and check a description; no config is read yet.

    Raises:
        ComparisonError: no YAML, a key that is unknown, missing, or has a bad value.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ComparisonError(f"{path}: cannot be read ({error.strerror}); name the YAML of a comparison.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ComparisonError(f"{path}: not plain YAML ({' '.join(str(error).split())}); correct it.") from error
    values = _checked(loaded, KEYS, REQUIRED, str(path))
    balancers = values.get("balancers", [])
    candidates = tuple(
        Candidate(str(name), role, _overrides(words, f"{path}: {key}.{name}"), is_balancer=name in balancers)
        for key, role in ROLES.items()
        for name, words in values.get(key, {}).items()
    )
    _check_names(candidates, balancers, path)
    return Comparison(
        name=path.stem,
        config=str(path.parent / values["config"]),
        seeds=_seeds(values["seeds"], path),
        candidates=candidates,
        search=_search(values["search"], f"{path}: search"),
        overrides=_overrides(values.get("overrides", {}), f"{path}: overrides", allowed=DATASETS),
        processes=_positive(values, "processes", path),
        threads=_positive(values, "threads", path),
        note=" ".join(values.get("note", "").split()),
    )


def flat(overrides: Mapping[str, Any], prefix: str = "") -> Overrides:
    """Nested mappings as one, with dotted keys."""
    result: Overrides = {}
    for key, value in overrides.items():
        name = f"{prefix}{key}"
        result |= flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return result


def _checked(loaded: Any, keys: Mapping[str, Any], required: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(loaded, dict):
        raise ComparisonError(f"{where}: found {_kind(loaded)}, expected a mapping with the keys {', '.join(keys)}.")
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
            raise ComparisonError(f"{where}: {key!r}: found {_kind(value)}, expected {expected}.")
    return loaded


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}, {value!r}"


def _overrides(loaded: Any, where: str, allowed: tuple[str, ...] = ()) -> Overrides:
    if not isinstance(loaded, dict):
        raise ComparisonError(f"{where}: found {_kind(loaded)}, expected config keys with their values.")
    result = flat(loaded)
    for key in result:
        if key in OWN_KEYS and key not in allowed:
            raise ComparisonError(f"{where}: {key} is set by the comparison itself; remove it.")
    return result


def _check_names(candidates: tuple[Candidate, ...], balancers: list, path: Path) -> None:
    names = [candidate.name for candidate in candidates]
    for name in names:
        if names.count(name) > 1:
            raise ComparisonError(f"{path}: {name!r} stands in two of references, joint and grid; rename one.")
    joint = {candidate.name for candidate in candidates if candidate.role == "joint"}
    for name in balancers:
        if name not in joint:
            raise ComparisonError(f"{path}: balancers: {name!r} is none of 'joint' ({', '.join(sorted(joint))}).")
    if balancers and not any(candidate.role == "grid" for candidate in candidates):
        raise ComparisonError(f"{path}: 'balancers' are held against a grid of fixed weights: add 'grid'.")


def _seeds(values: list, path: Path) -> tuple[int, ...]:
    if not values or any(not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 for seed in values):
        raise ComparisonError(f"{path}: 'seeds': found {values}, expected one or more integers of 0 or more.")
    if len(set(values)) < len(values):
        raise ComparisonError(f"{path}: 'seeds': found {values}, expected each once: runs of one seed are the same.")
    return tuple(values)


def _positive(values: Mapping[str, Any], key: str, path: Path) -> int:
    number = values.get(key, 1)
    if number < 1:
        raise ComparisonError(f"{path}: {key!r}: found {number}, expected 1 or more.")
    return number


def _search(loaded: dict | str, where: str) -> Search | None:
    if loaded == "none":
        return None
    if isinstance(loaded, str):
        raise ComparisonError(f"{where}: found {loaded!r}, expected a mapping ({', '.join(SEARCH_KEYS)}), or none.")
    values = _checked(loaded, SEARCH_KEYS, ("folds", "values"), where)
    if values["folds"] < 2:
        raise ComparisonError(f"{where}: 'folds': found {values['folds']}, expected 2 or more.")
    tried = _overrides(values["values"], f"{where}.values")
    for key, choices in tried.items():
        if not isinstance(choices, list) or not choices:
            raise ComparisonError(f"{where}.values: {key}: found {_kind(choices)}, expected a list of values to try.")
    if not tried:
        raise ComparisonError(f"{where}: 'values' is empty: name keys with values to try, or say search: none.")
    overrides = _overrides(values.get("overrides", {}), f"{where}.overrides")
    return Search(folds=values["folds"], values=tried, overrides=overrides, seed=values.get("seed", 0))
