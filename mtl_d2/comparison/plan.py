"""Which trainings a comparison needs: of the search, of the networks that are compared, and of longer references."""

import hashlib
import itertools
import json
import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from ..data.datasets import resolve_dataset, resolve_datasets
from ..data.preflight import load_records
from ..engine.defaults import check_supported, flat, setup_cfg
from .description import Candidate, Comparison
from .yaml_values import DATASETS, ComparisonError, Overrides

LONGER = 4 / 3  # steps of the runs that show whether the references are trained
# Of what a run leaves, and of the defaults of the config: a higher one repeats all runs.
FORMAT = 2


@dataclass(frozen=True)
class Run:
    """One training.

    label: for people, such as "joint_equal seed 1".
    words: KEY VALUE pairs over the base config, without OUTPUT_DIR.
    key: of the run's content; runs of one key are the same run.
    steps: of training.
    images: that it is trained on, repeats counted.
    test_sets: that it is scored on.
    last_stage: the folder in its own where a run of several stages (SOLVER.MTL.STAGES) leaves its answers; "" of one.
    """

    label: str
    config: str
    words: tuple[str, ...]
    key: str
    steps: int
    images: int
    test_sets: tuple[str, ...]
    last_stage: str = ""
    processes: int = 1
    threads: int = 1


def trials(comparison: Comparison, candidate: Candidate) -> list[Overrides]:
    """The values that the search tries for a candidate; what its own overrides set is not searched."""
    if comparison.search is None:
        return [{}]
    values = {key: v for key, v in comparison.search.values.items() if key not in candidate.overrides}
    return [dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values())]


def search_runs(comparison: Comparison) -> dict[tuple[str, int, int], Run]:
    """``{(candidate, number of the trial, fold): run}``, of the first seed; {} where nothing is searched.

    No run of the search is trained or scored on an image of DATASETS.TEST.
    """
    search = comparison.search
    if search is None:
        return {}
    runs = {}
    for candidate in comparison.candidates:
        cfg = candidate_cfg(comparison, candidate)
        train, _ = _as_written(comparison, candidate)
        ending = f"of{search.folds}seed{search.seed}"
        tried = trials(comparison, candidate)
        if len(tried) == 1 and candidate.role != "reference":  # references are what others' trials are held against
            continue
        for (number, trial), fold in itertools.product(enumerate(tried), range(search.held_out)):
            overrides = {
                **_of_length(cfg, search.overrides.get("SOLVER.MAX_ITER", cfg.SOLVER.MAX_ITER) / cfg.SOLVER.MAX_ITER),
                **trial,
                **search.overrides,
                "DATASETS.TRAIN": (f"{train}.rest{fold}{ending}",),
                "DATASETS.TEST": (f"{train}.fold{fold}{ending}",),
            }
            label = f"{candidate.name} trial {number + 1} fold {fold + 1}"
            runs[candidate.name, number, fold] = _run(comparison, candidate, overrides, comparison.seeds[0], label)
    return runs


def final_runs(
    comparison: Comparison, chosen: Mapping[str, Overrides], phase: Literal["final", "longer"] = "final"
) -> dict[tuple[str, int], Run]:
    """``{(candidate, seed): run}`` of those in ``chosen``, scored on DATASETS.TEST and on as many training images.

    Args:
        chosen: ``{candidate: values that the search chose}``.
        phase: "longer" for the references alone, with a third more steps.
    """
    runs = {}
    for candidate in comparison.of_role("reference") if phase == "longer" else comparison.candidates:
        if candidate.name not in chosen:
            continue
        train, test = _as_written(comparison, candidate)
        size = min(len(load_records(resolve_dataset(name))) for name in (train, test))
        overrides: Overrides = {**chosen[candidate.name], "DATASETS.TEST": (test, f"{train}.sample{size}")}
        if phase == "longer":
            overrides |= _of_length(candidate_cfg(comparison, candidate, overrides), LONGER)
        for seed in comparison.seeds_of(phase):
            label = f"{candidate.name}{' longer' if phase == 'longer' else ''} seed {seed}"
            runs[candidate.name, seed] = _run(comparison, candidate, overrides, seed, label)
    return runs


def _as_written(comparison: Comparison, candidate: Candidate) -> tuple[str, str]:
    """The datasets to train and to score on as the config names them: a training finds them by the paths of their
    descriptions, not by names that this process has given them."""
    cfg = setup_cfg(comparison.config, to_words({**comparison.overrides, **candidate.overrides}))
    return cfg.DATASETS.TRAIN[0], cfg.DATASETS.TEST[0]


def _of_length(cfg: CfgNode, share: float) -> Overrides:
    """What has to change for a run of ``share`` of the steps: its schedule begins, drops and ends at the same shares.

    Steps of warm-up stay. Of stages each changes: what a stage sets wins over what all of a run set.
    """
    if share == 1:
        return {}
    own = flat(cfg)
    changed = {key: value for key, value in _scaled(own, share).items() if value != own[key]}
    if cfg.SOLVER.MTL.STAGES:
        changed["SOLVER.MTL.STAGES"] = [{**stage, **_scaled(stage, share)} for stage in stages_of(cfg)]
    return changed


def _scaled(values: Mapping[str, Any], share: float) -> Overrides:
    """Those of ``values`` that name steps of a run, ``{dotted key: value}``, at ``share`` of them."""
    scaled: Overrides = {}
    for key, value in values.items():
        part = key.startswith("SOLVER.MTL.PARTS.")
        if key == "SOLVER.MAX_ITER" or part and key.endswith((".START", ".STOP")):
            scaled[key] = _step(value, share)
        elif value and (key == "SOLVER.STEPS" or part and key.endswith(".STEPS")):
            scaled[key] = tuple(round(share * step) for step in value)
        elif key == "SOLVER.MTL.SCHEDULE.FREEZE":
            scaled[key] = [{**entry, **{end: _step(entry[end], share) for end in ("FROM", "TO")}} for entry in value]
    return scaled


def _step(step: int, share: float) -> int:
    """Rounded up, so that what ends with a run does so in a shorter one too; -1 for the end stays."""
    return step if step == -1 else math.ceil(share * step)


def candidate_cfg(comparison: Comparison, candidate: Candidate, overrides: Mapping[str, Any] | None = None) -> CfgNode:
    """The config of a candidate, with datasets registered.

    Raises:
        ComparisonError: the base config, or an override, cannot be used; or it has not one dataset to train on and
            one to score on.
    """
    merged = {**comparison.overrides, **candidate.overrides, **(overrides or {})}
    cfg = cfg_of(comparison.config, merged, f"{comparison.name}: {candidate.name}")
    for key in ("TRAIN", "TEST"):
        if overrides is None and len(cfg.DATASETS[key]) != 1:
            found = ", ".join(cfg.DATASETS[key]) or "none"
            raise ComparisonError(f"{comparison.config}: DATASETS.{key}: found {found}, a comparison has one dataset.")
    return cfg


def cfg_of(config: str, overrides: Mapping[str, Any], where: str) -> CfgNode:
    """A config with overrides, and its datasets registered.

    Raises:
        ComparisonError: it cannot be used.
    """
    try:
        cfg = setup_cfg(config, to_words(overrides))
        resolve_datasets(cfg)
        check_supported(cfg)
    except (ValueError, FileNotFoundError) as error:
        raise ComparisonError(f"{where}: {error}") from error
    return cfg


def stages_of(cfg: CfgNode) -> list[dict[str, Any]]:
    """What each stage of a run sets, flat, its NAME among it; [{}] of a run that has none."""
    return [flat(stage) for stage in cfg.SOLVER.MTL.get("STAGES", [])] or [{}]


def last_stage(cfg: CfgNode) -> Overrides:
    """Keys that the last stage sets: those of the network that is scored."""
    return {key: value for key, value in stages_of(cfg)[-1].items() if "." in key}


def to_words(overrides: Mapping[str, Any]) -> list[str]:
    """KEY VALUE words of a command line, which Detectron2's config reads back as these values."""
    return [
        word for key, value in overrides.items() for word in (key, value if isinstance(value, str) else repr(value))
    ]


def _run(comparison: Comparison, candidate: Candidate, overrides: Overrides, seed: int, label: str) -> Run:
    own = {"TEST.EVAL_PERIOD": 0, "TEST.MTL.PER_IMAGE": True, "SOLVER.MTL.BEST_METRIC": "", "SEED": seed}
    merged = {**comparison.overrides, **candidate.overrides, **overrides, **own}
    return make_run(comparison.config, merged, label, processes=comparison.processes, threads=comparison.threads)


def make_run(config: str, overrides: Mapping[str, Any], label: str, *, processes: int, threads: int) -> Run:
    """One training of a config with all its overrides, the seed among them."""
    cfg = cfg_of(config, overrides, label)
    stages = stages_of(cfg)
    steps = [stage.get("SOLVER.MAX_ITER", cfg.SOLVER.MAX_ITER) for stage in stages]
    batches = [stage.get("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH) for stage in stages]
    return Run(
        label=label,
        config=config,
        words=tuple(to_words(overrides)),
        key=run_key(cfg, processes),
        steps=sum(steps),
        images=sum(map(operator.mul, steps, batches)),
        test_sets=tuple(cfg.DATASETS.TEST),
        last_stage=stages[-1].get("NAME", ""),
        processes=processes,
        threads=threads,
    )


def run_key(cfg: CfgNode, processes: int) -> str:
    """A hash of what the results of a run depend on: config (OUTPUT_DIR aside), seed, data, weights, processes.

    Of the config, what differs from the defaults: a key that is new does not make the runs from before others.
    Detectron2's and mtl_d2's code is not in it: a record names its commit.
    """
    defaults = flat(setup_cfg())
    content = {k: v for k, v in flat(cfg).items() if k != "OUTPUT_DIR" and (k not in defaults or v != defaults[k])}
    keypoints = "keypoint" in cfg.MODEL.MTL.TASKS
    named = [resolve_dataset(name) for names in _of_stages(cfg, *DATASETS) for name in names]
    data = {name: fingerprint(name, keypoints=keypoints) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *named)}
    digests = "".join(_digest(Path(name)) for name in (cfg.MODEL.WEIGHTS, *_initial_checkpoints(cfg)))
    parts = [FORMAT, repr(sorted(content.items())), data, digests, processes]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _initial_checkpoints(cfg: CfgNode) -> list[str]:
    """The files that MODEL.MTL.INIT names, and those that stages name there or as MODEL.WEIGHTS."""
    values = [*flat(cfg.MODEL.MTL.INIT).values(), *_of_stages(cfg, "MODEL.WEIGHTS", "MODEL.MTL.INIT.")]
    return [name for value in values for name in ([value] if isinstance(value, str) else value)]


def _of_stages(cfg: CfgNode, *keys: str) -> list[Any]:
    """What the stages of a run set for keys that begin so."""
    return [value for stage in stages_of(cfg) for key, value in stage.items() if key.startswith(keys)]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@cache
def fingerprint(dataset: str, *, keypoints: bool = False) -> str:
    """A hash of a dataset's records, and of the sizes of the files that they name; wherever it lies.

    The files themselves are not read: one that is changed in place and keeps its size goes unnoticed.

    Args:
        keypoints: whether those of the annotations are part of it, and the areas that OKS divides by. A run without
            that task is the same on a dataset that has got keypoints.
    """
    records = [_portable(record) for record in DatasetCatalog.get(dataset)]
    if not keypoints:
        records = [_without_keypoints(record) for record in records]
    text = json.dumps(records, sort_keys=True, default=lambda value: getattr(value, "tolist", lambda: repr(value))())
    return hashlib.sha256(text.encode()).hexdigest()


def _without_keypoints(record: dict[str, Any]) -> dict[str, Any]:
    """The record without keypoints, and without areas, on which of boxes and masks only APs, APm and APl depend."""
    if "annotations" not in record:
        return record
    kept = [{key: value for key, value in a.items() if key not in ("keypoints", "area")} for a in record["annotations"]]
    return {**record, "annotations": kept}


def _portable(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the names and sizes of its files in the place of their paths."""
    files = {key: value for key, value in record.items() if isinstance(value, str) and os.path.isfile(value)}
    return {**record, **{key: [os.path.basename(path), os.path.getsize(path)] for key, path in files.items()}}
