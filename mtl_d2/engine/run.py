"""A run from a yaml config: train, evaluate, and leave a record of both."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation import verify_results
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch import nn

from ..data.build import build_multitask_train_loader
from ..data.preflight import preflight
from .checkpoint import load_for_evaluation
from .class_weights import with_class_weights
from .config_checks import check_solver
from .defaults import setup
from .ema import ModelEma
from .evaluation import evaluate_datasets, require_test_sets
from .fit import fit
from .initial_weights import load_initial_parts
from .launch import create_ddp
from .lr_schedule import PartRatesWriter, build_lr_scheduler
from .mapper import build_train_mapper
from .optimizer import build_gradient_clipper, build_optimizer
from .part_settings import has_own_settings
from .report import ReportedEvaluation, RunReport
from .staged_run import train_stages
from .task_schedule import TaskSchedule
from .task_schedule_hook import TaskScheduleHook
from .trainer import MultiTaskTrainer


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

    With SOLVER.MTL.STAGES these are runs one after the other, see :func:`.staged_run.train_stages`.

    The record of the run, OUTPUT_DIR/report.json, is written before every evaluation and completed after it,
    so that a training whose evaluation fails has one too.

    Args:
        cfg: of ``setup``, with SEED >= 0.
        resume: go on from the last checkpoint in OUTPUT_DIR.
        config_file, overrides: where cfg came from, for the record.
    """
    check_solver(cfg, comm.get_world_size())
    if cfg.SOLVER.MTL.STAGES:
        return train_stages(cfg, train, resume, config_file=config_file, overrides=overrides)
    if comm.is_main_process():
        preflight(cfg)
    comm.synchronize()
    cfg = with_class_weights(cfg, resume=resume)
    seed_all_rng(cfg.SEED)  # the initial weights too are a function of SEED, whatever ran before in this process
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    more_hooks = build_schedule_hooks(cfg, model, optimizer)
    trainer = MultiTaskTrainer(
        create_ddp(model),
        lambda start: build_multitask_train_loader(cfg, mapper=build_train_mapper(cfg), start_batch=start),
        optimizer,
        seed=cfg.SEED,
        amp_dtype=cfg.SOLVER.MTL.AMP_DTYPE if cfg.SOLVER.AMP.ENABLED else None,
        clip_gradients=build_gradient_clipper(cfg, model),
        accumulate_steps=cfg.SOLVER.MTL.ACCUMULATE_STEPS,
        max_bad_steps=cfg.SOLVER.MTL.MAX_BAD_STEPS,
        cosine_period=cfg.MODEL.MTL.BALANCER.COSINE_PERIOD,
    )
    ema = build_ema(cfg, model)
    evaluation = ReportedEvaluation(
        report_of(cfg, config_file, overrides),
        trainer,
        cfg.SOLVER.MAX_ITER,
        partial(evaluate_datasets, cfg, ema.average if ema else model) if cfg.DATASETS.TEST else None,
    )
    fit(
        trainer,
        build_lr_scheduler(cfg, optimizer),
        max_iter=cfg.SOLVER.MAX_ITER,
        output_dir=cfg.OUTPUT_DIR,
        weights=cfg.MODEL.WEIGHTS,
        load_parts=partial(load_initial_parts, cfg),
        resume=resume,
        evaluate=evaluation,
        eval_period=cfg.TEST.EVAL_PERIOD,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        best_metric=cfg.SOLVER.MTL.BEST_METRIC if cfg.DATASETS.TEST else "",
        ema=ema,
        more_hooks=more_hooks,
    )
    return evaluation.last.results


def build_schedule_hooks(cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[HookBase]:
    """The hooks of SOLVER.MTL.SCHEDULE and PARTS; ``model`` is not yet wrapped for DDP."""
    schedule = TaskSchedule.from_config(cfg)
    rates = [PartRatesWriter(optimizer)] if has_own_settings(cfg) else []
    return [*rates, *([] if schedule.is_joint else [TaskScheduleHook(schedule, model)])]


def build_ema(cfg: CfgNode, model: nn.Module) -> ModelEma | None:
    """The average of SOLVER.MTL.EMA; ``model`` has equal weights on all ranks, and is not wrapped for DDP."""
    options = cfg.SOLVER.MTL.EMA
    return ModelEma(model, options.DECAY, warmup=options.WARMUP) if options.ENABLED else None


def evaluate_checkpoint(
    cfg: CfgNode, resume: bool = False, *, config_file: str = "", overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Evaluate MODEL.WEIGHTS, or the last checkpoint in OUTPUT_DIR with ``resume``; see ``evaluate``.

    The record is OUTPUT_DIR/report_eval.json: a training's own report.json stays as it is.
    """
    require_test_sets(cfg)
    model = build_model(cfg)
    trainer = load_for_evaluation(model, cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, resume=resume).get("trainer", {})
    evaluation = evaluate_datasets(cfg, model)
    report_of(cfg, config_file, overrides).write(
        evaluation,
        iterations=trainer.get("iteration", -1) + 1,
        train_seconds=trainer.get("seconds", 0.0),
        name="report_eval.json",
    )
    return evaluation.results


def report_of(cfg: CfgNode, config_file: str = "", overrides: Sequence[str] = ()) -> RunReport:
    """The writer of the records of a run of ``cfg``."""
    return RunReport(
        output_dir=cfg.OUTPUT_DIR, seed=cfg.SEED, device=cfg.MODEL.DEVICE, config=config_file, overrides=overrides
    )
