"""A run from a yaml config: train, evaluate, and leave a record of both."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm

from ..data.build import build_multitask_train_loader
from ..data.preflight import preflight
from .checkpoint import MultiTaskCheckpointer
from .defaults import setup
from .evaluation import Evaluation, evaluate_datasets
from .fit import fit
from .launch import create_ddp
from .optimizer import build_gradient_clipper, build_optimizer
from .record import new_record, write_record
from .trainer import MultiTaskTrainer, peak_memory_mib


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, or with ``--eval-only`` evaluate, as a command line says; call it in every process of the job.

    Args:
        args: of ``detectron2.engine.default_argument_parser()``.
    """
    cfg = setup(args)
    provenance = {"config_file": args.config_file, "overrides": args.opts or ()}
    if args.eval_only:
        results = evaluate_checkpoint(cfg, resume=args.resume, **provenance)
    else:
        results = train(cfg, resume=args.resume, **provenance)
    if comm.is_main_process() and results:
        verify_results(cfg, results)
    return results


def train(
    cfg: CfgNode, resume: bool = False, *, config_file: str = "", overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Train what the config says; return the results of the final evaluation ({} without DATASETS.TEST).

    The record of the run, OUTPUT_DIR/report.json, is written before every evaluation and completed after it,
    so that a training whose evaluation fails has one too.

    Args:
        cfg: of ``setup``, with SEED >= 0.
        resume: go on from the last checkpoint in OUTPUT_DIR.
        config_file, overrides: where cfg came from, for the record.
    """
    if comm.is_main_process():
        preflight(cfg)
    comm.synchronize()
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    trainer = MultiTaskTrainer(
        create_ddp(model),
        lambda start: build_multitask_train_loader(cfg, start_batch=start),
        optimizer,
        seed=cfg.SEED,
        amp_dtype=cfg.SOLVER.MTL.AMP_DTYPE if cfg.SOLVER.AMP.ENABLED else None,
        clip_gradients=build_gradient_clipper(cfg),
    )
    evaluation = Evaluation()

    def report() -> None:
        write_report(
            cfg,
            evaluation,
            iterations=min(trainer.iter + 1, cfg.SOLVER.MAX_ITER),
            train_seconds=trainer.seconds,
            skipped_images=dict(trainer.skipped_images),
            config_file=config_file,
            overrides=overrides,
        )

    def evaluate_and_report() -> dict[str, Any]:
        nonlocal evaluation
        evaluation = Evaluation()
        report()
        evaluation = evaluate_datasets(cfg, model)
        report()
        return evaluation.results

    fit(
        trainer,
        build_lr_scheduler(cfg, optimizer),
        max_iter=cfg.SOLVER.MAX_ITER,
        output_dir=cfg.OUTPUT_DIR,
        weights=cfg.MODEL.WEIGHTS,
        resume=resume,
        evaluate=evaluate_and_report if cfg.DATASETS.TEST else None,
        eval_period=cfg.TEST.EVAL_PERIOD,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        best_metric=cfg.SOLVER.MTL.BEST_METRIC,
    )
    if not cfg.DATASETS.TEST:
        report()
    return evaluation.results


def evaluate_checkpoint(
    cfg: CfgNode, resume: bool = False, *, config_file: str = "", overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Evaluate MODEL.WEIGHTS, or the last checkpoint in OUTPUT_DIR with ``resume``; see ``evaluate``.

    The record is OUTPUT_DIR/report_eval.json: a training's own report.json stays as it is.
    """
    model = build_model(cfg)
    extra = MultiTaskCheckpointer(model, cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    trainer = extra.get("trainer", {})
    evaluation = evaluate_datasets(cfg, model)
    write_report(
        cfg,
        evaluation,
        iterations=trainer.get("iteration", -1) + 1,
        train_seconds=trainer.get("seconds", 0.0),
        config_file=config_file,
        overrides=overrides,
        name="report_eval.json",
    )
    return evaluation.results


def write_report(
    cfg: CfgNode,
    evaluation: Evaluation,
    *,
    iterations: int,
    train_seconds: float,
    skipped_images: dict[str, int] | None = None,
    config_file: str = "",
    overrides: Sequence[str] = (),
    name: str = "report.json",
) -> None:
    """Write OUTPUT_DIR/``name``, on the main process; of several test sets with groups ``dataset/group``."""
    peak = peak_memory_mib(cfg.MODEL.DEVICE)
    if not comm.is_main_process():
        return
    several = len(cfg.DATASETS.TEST) > 1
    record = new_record(
        results=_join_names(evaluation.results) if several else dict(evaluation.results),
        images=_join_names(evaluation.images) if several else dict(evaluation.images),
        config=config_file,
        overrides=[str(word) for word in overrides],
        seed=cfg.SEED,
        iterations=iterations,
        seconds={"train": train_seconds, "eval": evaluation.seconds},
        device=cfg.MODEL.DEVICE,
        peak_memory_mib=peak,
        skipped_images=skipped_images,
    )
    write_record(os.path.join(cfg.OUTPUT_DIR, name), record)


def _join_names(nested: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {f"{outer}/{inner}": value for outer, group in nested.items() for inner, value in group.items()}
