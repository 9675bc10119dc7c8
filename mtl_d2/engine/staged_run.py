"""A run of several stages: each starts from what the one before has trained, and the last gives the network."""

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from ..data.datasets import resolve_datasets
from ..data.preflight import preflight
from .class_weights import FILE as CLASS_COUNTS
from .record import RunRecord, portable_word, read_record, write_record
from .stages import AVERAGE, Stage, read_stages
from .weights_file import read_torch_file, write_torch_file

logger = logging.getLogger(__name__)

_FINAL, _RECORD = "model_final.pth", "report.json"
_TAG = "last_checkpoint"  # names the file that --resume takes


def train_stages(
    cfg: CfgNode,
    train: Callable[..., dict[str, Any]],
    resume: bool = False,
    *,
    config_file: str = "",
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Run SOLVER.MTL.STAGES one after the other; return the results of the last one's final evaluation.

    Each stage has a folder in OUTPUT_DIR, with all that a run leaves. OUTPUT_DIR itself gets the network of the last
    one, model_final.pth, and report.json with its results and the steps and seconds of all stages.

    Args:
        cfg: of ``setup``, with SEED >= 0.
        train: trains one stage: ``(cfg, resume, config_file=, overrides=) -> results``.
        resume: leave out the stages that are complete, and go on in the first that is not.
        config_file, overrides: where cfg came from, for the records.
    """
    stages = read_stages(cfg)
    _preflight_later(stages)
    results: dict[str, Any] = {}
    for index, stage in enumerate(stages):
        if resume and _is_complete(stage):
            logger.info("Stage %r of %d is complete.", stage.name, len(stages))
            continue
        # What a stage starts from is trained anew: its own earlier results are none of this run.
        _forget(cfg.OUTPUT_DIR, stages[index + 1 :] if resume else stages[index:])
        logger.info("Stage %r, %d of %d.", stage.name, index + 1, len(stages))
        stage_cfg = _with_start(stage, stages[index - 1] if index else None)
        results = train(stage_cfg, resume, config_file=config_file, overrides=[*overrides, *stage.options])
        comm.synchronize()
    if comm.is_main_process():
        records = [read_record(_path(stage, _RECORD)) for stage in stages]
        _write_final(cfg.OUTPUT_DIR, stages[-1], _total(records, config_file, overrides))
        results = results or records[-1].results
    comm.synchronize()
    return results


def _preflight_later(stages: Sequence[Stage]) -> None:
    """Check what later stages train on before the first one begins, which checks its own."""
    for stage in stages:
        resolve_datasets(stage.cfg)
        if comm.is_main_process() and _trains_on(stage) != _trains_on(stages[0]):
            preflight(stage.cfg)
    comm.synchronize()


def _trains_on(stage: Stage) -> tuple:
    return stage.cfg.DATASETS.TRAIN, stage.cfg.DATASETS.TEST, stage.tasks


def split_networks(path: str | os.PathLike) -> dict[str, str]:
    """Write the networks of a checkpoint of SeparateTaskNetworks beside it, each as one of a single-task network.

    Returns:
        ``{task: path of <task>.pth}``.
    """
    networks: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in read_torch_file(str(path))["model"].items():
        _, task, name = key.split(".", 2)
        networks.setdefault(task, {})[name] = value
    files = {task: str(Path(path).with_name(f"{task}.pth")) for task in networks}
    if comm.is_main_process():
        for task, weights in networks.items():
            write_torch_file(files[task], {"model": weights})
    comm.synchronize()
    return files


def _with_start(stage: Stage, before: Stage | None) -> CfgNode:
    """The config of a stage that starts from the one before; also OUTPUT_DIR's config.yaml is written."""
    cfg = stage.cfg.clone()
    cfg.defrost()
    if before is not None:
        _start_from(cfg, _path(before, _FINAL), stage.trunk)
    cfg.freeze()
    if comm.is_main_process():
        os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
        Path(cfg.OUTPUT_DIR, "config.yaml").write_text(cfg.dump())
    return cfg


def _start_from(cfg: CfgNode, checkpoint: str, trunk: str) -> None:
    start = cfg.MODEL.MTL.INIT
    start.TRUNK, start.NECK, start.HEADS, start.NETWORKS = [], [], CfgNode(), CfgNode()
    cfg.MODEL.WEIGHTS = "" if trunk else checkpoint
    if trunk:
        files = split_networks(checkpoint)
        start.TRUNK = list(files.values()) if trunk == AVERAGE else [files[trunk]]
        start.HEADS = CfgNode(files)
        start.NECK = list(start.TRUNK) if cfg.MODEL.MTL.NECK.NAME != "identity" else []


def _path(stage: Stage, name: str) -> str:
    return os.path.join(stage.cfg.OUTPUT_DIR, name)


def _is_complete(stage: Stage) -> bool:
    """Whether a stage was trained to its end and scored, as the main process sees it."""
    complete = False
    if comm.is_main_process() and os.path.isfile(_path(stage, _FINAL)) and os.path.isfile(_path(stage, _RECORD)):
        record = read_record(_path(stage, _RECORD))
        scored = bool(record.results) or not stage.cfg.DATASETS.TEST
        complete = record.iterations == stage.cfg.SOLVER.MAX_ITER and scored
    return comm.all_gather(complete)[0]


def _forget(output_dir: str, stages: Sequence[Stage]) -> None:
    """Remove what would let ``--resume`` go on with, leave out or score stages of an earlier run in the same folder."""
    if comm.is_main_process():
        Path(output_dir, _TAG).unlink(missing_ok=True)
        for stage in stages:
            for name in (_TAG, _RECORD, CLASS_COUNTS):
                Path(_path(stage, name)).unlink(missing_ok=True)
    comm.synchronize()


def _total(records: Sequence[RunRecord], config_file: str, overrides: Sequence[str]) -> RunRecord:
    """The last record, with the steps, seconds and skipped images of all, and what the run was started with."""
    peaks = [record.peak_memory_mib for record in records if record.peak_memory_mib is not None]
    return dataclasses.replace(
        records[-1],
        config=portable_word(config_file),
        overrides=[portable_word(str(word)) for word in overrides],
        iterations=sum(record.iterations for record in records),
        seconds={key: sum(record.seconds[key] for record in records) for key in records[-1].seconds},
        skipped_images=dict(sum((Counter(record.skipped_images) for record in records), Counter())),
        skipped_steps=sum(record.skipped_steps for record in records),
        peak_memory_mib=max(peaks) if peaks else None,
    )


def _write_final(output_dir: str, last: Stage, record: RunRecord) -> None:
    trainer = {"iteration": record.iterations - 1, "seconds": record.seconds["train"]}  # of all stages
    weights = read_torch_file(_path(last, _FINAL))["model"]
    write_torch_file(os.path.join(output_dir, _FINAL), {"model": weights, "trainer": trainer})
    Path(output_dir, _TAG).write_text(_FINAL)  # for --eval-only --resume
    write_record(os.path.join(output_dir, _RECORD), record)
