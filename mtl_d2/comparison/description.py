"""A comparison described by a small YAML file: which networks are trained, and what is held against what."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .yaml_values import (
    DATASETS,
    ComparisonError,
    Overrides,
    checked,
    config_overrides,
    kind_of,
    positive,
    read_yaml,
    seeds_of,
)

Role = Literal["reference", "joint", "grid"]

ROLES: dict[str, Role] = {"references": "reference", "joint": "joint", "grid": "grid"}  # by key of the file

KEYS = {
    "config": str,
    "seeds": list,
    "longer_seeds": int,
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
SEARCH_KEYS = {"folds": int, "held_out": int, "values": dict, "overrides": dict, "seed": int}


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
    """Every value of every key in ``values`` with every other, on folds of the training images.

    held_out: so many of the ``folds`` are scored on in turn, with the others to train on.
    overrides: of the runs of the search, such as a shorter SOLVER.MAX_ITER.
    seed: of the permutation that makes the folds.
    """

    folds: int
    held_out: int
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
    longer_seeds: of so many seeds, the first ones, the references are trained a third longer too; None for all.
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
    longer_seeds: int | None = None

    def seeds_of(self, phase: Literal["final", "longer"]) -> tuple[int, ...]:
        return self.seeds[: self.longer_seeds] if phase == "longer" else self.seeds

    def of_role(self, *roles: Role) -> list[Candidate]:
        return [candidate for candidate in self.candidates if candidate.role in roles]


def read_comparison(path: Path) -> Comparison:
    """Read and check a description; no config is read yet.

    Raises:
        ComparisonError: no YAML, a key that is unknown, missing, or has a bad value.
    """
    values = read_yaml(path, KEYS, REQUIRED)
    balancers = values.get("balancers", [])
    candidates = tuple(
        Candidate(str(name), role, config_overrides(words, f"{path}: {key}.{name}"), is_balancer=name in balancers)
        for key, role in ROLES.items()
        for name, words in values.get(key, {}).items()
    )
    _check_names(candidates, balancers, path)
    return Comparison(
        name=path.stem,
        config=os.path.normpath(path.parent / values["config"]),
        seeds=seeds_of(values["seeds"], path),
        candidates=candidates,
        search=_search(values["search"], f"{path}: search"),
        overrides=config_overrides(values.get("overrides", {}), f"{path}: overrides", allowed=DATASETS),
        processes=positive(values, "processes", path),
        threads=positive(values, "threads", path),
        note=" ".join(values.get("note", "").split()),
        longer_seeds=positive(values, "longer_seeds", path) if "longer_seeds" in values else None,
    )


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


def _search(loaded: dict | str, where: str) -> Search | None:
    if loaded == "none":
        return None
    if isinstance(loaded, str):
        raise ComparisonError(f"{where}: found {loaded!r}, expected a mapping ({', '.join(SEARCH_KEYS)}), or none.")
    values = checked(loaded, SEARCH_KEYS, ("folds", "values"), where)
    if values["folds"] < 2:
        raise ComparisonError(f"{where}: 'folds': found {values['folds']}, expected 2 or more.")
    held_out = values.get("held_out", values["folds"])
    if not 1 <= held_out <= values["folds"]:
        raise ComparisonError(f"{where}: 'held_out': found {held_out}, expected 1 to {values['folds']}, the folds.")
    tried = config_overrides(values["values"], f"{where}.values")
    for key, choices in tried.items():
        if not isinstance(choices, list) or not choices:
            raise ComparisonError(f"{where}.values: {key}: found {kind_of(choices)}, expected a list of values to try.")
    if not tried:
        raise ComparisonError(f"{where}: 'values' is empty: name keys with values to try, or say search: none.")
    overrides = config_overrides(values.get("overrides", {}), f"{where}.overrides")
    return Search(values["folds"], held_out, values=tried, overrides=overrides, seed=values.get("seed", 0))
