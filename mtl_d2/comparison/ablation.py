"""Networks in a row of a table each: what they cost and what they score, without references and without a search."""

import dataclasses
import datetime
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ..engine.config_checks import check_solver
from ..engine.record import RunRecord, portable_command, portable_word
from .costs import Cost, measure_costs
from .execute import Runs
from .plan import Run, cfg_of, last_stage, make_run
from .yaml_values import (
    DATASETS,
    ComparisonError,
    Overrides,
    check_only,
    config_overrides,
    kind_of,
    positive,
    read_yaml,
    seeds_of,
)

KEYS = {
    "title": str,
    "config": str,
    "seeds": list,
    "variants": dict,
    "columns": dict,
    "overrides": dict,
    "processes": int,
    "threads": int,
    "note": str,
}
REQUIRED = ("title", "config", "seeds", "variants")


@dataclass(frozen=True)
class Variant:
    """A row of the table: a config file, and what differs from it."""

    name: str
    config: str
    overrides: Overrides


@dataclass(frozen=True)
class Ablation:
    """What a YAML file in ``configs/ablations/`` describes.

    name: the file's, without its ending.
    variants: the time of inference of each is also given as a ratio to that of the first.
    columns: ``{title: figures}`` of a record, "group/name" each, of which the mean is shown; {} for the main figures.
    processes, threads: of one training.
    note: what the reader of the table has to know.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    variants: tuple[Variant, ...]
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    processes: int = 1
    threads: int = 1
    note: str = ""


def read_ablation(path: Path) -> Ablation:
    """Read and check a description.

    A variant is ``{config key: value}``; one that is a file name instead, or has one under ``config``, takes that
    config in the place of the common one.

    Raises:
        ComparisonError: no YAML, a key that is unknown, missing, or has a bad value.
    """
    values = read_yaml(path, KEYS, REQUIRED)
    common = config_overrides(values.get("overrides", {}), f"{path}: overrides", allowed=DATASETS)
    variants = [_variant(str(name), own, path, values["config"], common) for name, own in values["variants"].items()]
    if not variants:
        raise ComparisonError(f"{path}: 'variants' is empty: name at least one.")
    return Ablation(
        name=path.stem,
        title=values["title"],
        seeds=seeds_of(values["seeds"], path),
        variants=tuple(variants),
        columns=_columns(values.get("columns", {}), f"{path}: columns"),
        processes=positive(values, "processes", path),
        threads=positive(values, "threads", path),
        note=" ".join(values.get("note", "").split()),
    )


def _variant(name: str, loaded: Any, path: Path, config: str, common: Overrides) -> Variant:
    own = {"config": loaded} if isinstance(loaded, str) else loaded
    if isinstance(own, dict):
        config = own.get("config", config)
        own = {key: value for key, value in own.items() if key != "config"}
    if not isinstance(config, str):
        raise ComparisonError(
            f"{path}: variants.{name}.config: found {kind_of(config)}, expected the name of a config."
        )
    overrides = config_overrides(own, f"{path}: variants.{name}", allowed=DATASETS)
    return Variant(name, os.path.normpath(path.parent / config), {**common, **overrides})


def _columns(loaded: dict[Any, Any], where: str) -> dict[str, tuple[str, ...]]:
    columns = {}
    for title, names in loaded.items():
        listed = [names] if isinstance(names, str) else names
        if not isinstance(listed, list) or not listed or not all(map(_is_figure, listed)):
            raise ComparisonError(
                f"{where}.{title}: found {kind_of(names)}, expected a figure of the runs' records, such as "
                "segm/AP-ring, or a list of figures."
            )
        columns[str(title)] = tuple(listed)
    return columns


def _is_figure(name: Any) -> bool:
    return isinstance(name, str) and all(name.partition("/"))


@dataclass
class AblationRuns:
    """The trainings of an ablation, and which of them are wanted.

    only: names of variants that are trained now; empty for all. What others have left is used.
    """

    ablation: Ablation
    runs: Runs
    only: Collection[str] = ()
    planned: dict[tuple[str, int], Run] = field(init=False)

    def __post_init__(self) -> None:
        check_only(self.only, [variant.name for variant in self.ablation.variants], self.ablation.name)
        for variant in self.ablation.variants:
            _check(self.ablation, variant)
        self.planned = {
            (variant.name, seed): _run(self.ablation, variant, seed)
            for seed in self.ablation.seeds
            for variant in self.ablation.variants
        }

    def wanted(self) -> list[Run]:
        """Seed by seed, so that an ablation that is interrupted has whole ones."""
        return [run for (name, _), run in self.planned.items() if not self.only or name in self.only]

    def carry_out(self, jobs: int = 1) -> list[str]:
        """Run all that is wanted and missing, ``jobs`` beside each other; labels of those that failed."""
        return [run.label for run in self.runs.execute(self.wanted(), jobs, self.ablation.name)]

    def records(self, variant: Variant) -> dict[int, RunRecord]:
        """``{seed: record}`` of the finished runs."""
        found = {seed: self.runs.record(self.planned[variant.name, seed]) for seed in self.ablation.seeds}
        return {seed: record for seed, record in found.items() if record}

    def costs(self, rounds: int) -> dict[str, Cost]:
        """Of the variants with a finished run, by their names; {} for 0 rounds."""
        networks = {}
        for variant in self.ablation.variants:
            seeds = list(self.records(variant))
            if seeds:
                run = self.planned[variant.name, seeds[0]]
                last = last_stage(_cfg(self.ablation, variant))
                cfg = cfg_of(variant.config, {**variant.overrides, **last}, variant.name)
                networks[variant.name] = cfg, self.runs.place(run) / "model_final.pth"
        return measure_costs(networks, list(networks)[:1], rounds=rounds) if rounds and networks else {}


def new_ablation_findings(
    found: AblationRuns, costs: Mapping[str, Cost], failed: Sequence[str], argv: Sequence[str]
) -> dict[str, Any]:
    """The record of an ablation, of which its table is made."""
    ablation = found.ablation
    records = [record for variant in ablation.variants for record in found.records(variant).values()]
    return {
        "ablation": ablation.name,
        "title": ablation.title,
        "note": ablation.note,
        "columns": {title: list(names) for title, names in ablation.columns.items()},
        "processes": ablation.processes,
        "threads": ablation.threads,
        "failed": list(failed),
        "variants": {
            variant.name: {
                "config": portable_word(variant.config),
                "cost": dataclasses.asdict(costs[variant.name]) if variant.name in costs else None,
                "records": {str(seed): dataclasses.asdict(r) for seed, r in found.records(variant).items()},
            }
            for variant in ablation.variants
        },
        "command": portable_command(argv),
        "torch": ", ".join(sorted({record.torch for record in records})),
        "detectron2": ", ".join(sorted({record.detectron2 for record in records})),
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _cfg(ablation: Ablation, variant: Variant) -> CfgNode:
    return cfg_of(variant.config, variant.overrides, f"{ablation.name}: {variant.name}")


def _check(ablation: Ablation, variant: Variant) -> None:
    """What cannot be built or trained is said before anything is."""
    cfg = _cfg(ablation, variant)
    try:
        check_solver(cfg, ablation.processes)
    except (ValueError, ImportError) as error:
        raise ComparisonError(f"{ablation.name}: {variant.name}: {error}") from error


def _run(ablation: Ablation, variant: Variant, seed: int) -> Run:
    own = {"TEST.EVAL_PERIOD": 0, "SOLVER.MTL.BEST_METRIC": "", "SEED": seed}
    label = f"{variant.name} seed {seed}"
    return make_run(
        variant.config, {**variant.overrides, **own}, label, processes=ablation.processes, threads=ablation.threads
    )
