"""A run from a LazyConfig (a Python config file), with the same trainer as a run from yaml."""

import argparse
import inspect
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.utils import comm
from detectron2.utils.registry import locate
from omegaconf import DictConfig
from torch import nn

from .checkpoint import load_for_evaluation
from .defaults import check_device, draw_seed, start_logging
from .ema import ModelEma
from .evaluation import Evaluation
from .fit import fit
from .launch import create_ddp, share_buffers, unwrap
from .optimizer import clip_each_network, gradient_clipper
from .report import ReportedEvaluation, RunReport
from .task_schedule_hook import TaskScheduleHook
from .trainer import MultiTaskTrainer

logger = logging.getLogger(__name__)


def load_config(args: argparse.Namespace) -> DictConfig:
    """Return the config of ``args.config_file`` with the ``key=value`` overrides of ``args.opts``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an override that is not ``key=value``, or a missing part.
    """
    opts = list(args.opts or ())
    wrong = [word for word in opts if "=" not in word]
    if wrong:
        raise ValueError(f"{wrong[0]!r} after {args.config_file}: a LazyConfig takes overrides as key=value.")
    cfg = LazyConfig.apply_overrides(LazyConfig.load(args.config_file), opts)
    for key in ("model", "optimizer", "lr_multiplier", "dataloader", "train"):
        if key not in cfg:
            raise ValueError(f"{args.config_file} has no {key!r}; see configs/shapes/lazy_demo.py for all the parts.")
    return cfg


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, or with ``--eval-only`` evaluate; call it in every process of the job.

    The config has the attributes of Detectron2's ``tools/lazyconfig_train_net.py``: model, optimizer,
    lr_multiplier, dataloader.{train, test, evaluator} and train.{output_dir, max_iter, device,
    init_checkpoint, seed, eval_period, log_period, amp, ddp, checkpointer}; also train.clip_gradients
    (``clip_type``, ``clip_value``, ``norm_type``), train.amp.dtype, train.accumulate_steps,
    train.max_bad_steps, train.cosine_period, train.best_metric, train.ema (``decay``, ``warmup``) and
    train.task_schedule (a ``TaskSchedule``).
    """
    cfg = load_config(args)
    check_device(cfg.train.device, "train.device=cpu")
    if cfg.train.get("seed", -1) < 0:
        cfg.train.seed = draw_seed(cfg.train.output_dir if args.resume or args.eval_only else "")
    start_logging(cfg, args, cfg.train.output_dir)
    model = instantiate(cfg.model).to(cfg.train.device)
    if args.eval_only:
        load_for_evaluation(model, cfg.train.init_checkpoint, cfg.train.output_dir, resume=args.resume)
        return evaluate(cfg, model).results
    return train(cfg, model, resume=args.resume, config_file=args.config_file, overrides=args.opts or ())


def train(
    cfg: DictConfig,
    model: nn.Module,
    resume: bool = False,
    *,
    config_file: str = "",
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Train ``model`` with the other parts of the config; return the results of the final evaluation.

    The record, report.json in train.output_dir, is written before every evaluation and completed after it.
    """
    options = cfg.train
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    schedule = instantiate(options.get("task_schedule"))
    more_hooks = [TaskScheduleHook(schedule, model)] if schedule else []
    trainer = build_trainer(cfg, model, optimizer)
    ema = ModelEma(model, **options.ema) if options.get("ema") else None
    evaluation = ReportedEvaluation(
        RunReport(
            output_dir=options.output_dir,
            seed=options.seed,
            device=options.device,
            config=config_file,
            overrides=overrides,
        ),
        trainer,
        options.max_iter,
        partial(evaluate, cfg, ema.average if ema else model) if "evaluator" in cfg.dataloader else None,
    )
    fit(
        trainer,
        instantiate(cfg.lr_multiplier),
        max_iter=options.max_iter,
        output_dir=options.output_dir,
        weights=options.init_checkpoint,
        resume=resume,
        evaluate=evaluation,
        eval_period=options.get("eval_period", 0),
        checkpoint_period=options.get("checkpointer", {}).get("period", 0),
        best_metric=options.get("best_metric", "") if evaluation.evaluate else "",
        ema=ema,
        more_hooks=more_hooks,
    )
    return evaluation.last.results


def build_trainer(cfg: DictConfig, model: nn.Module, optimizer: torch.optim.Optimizer) -> MultiTaskTrainer:
    """The trainer that cfg.train asks for."""
    options = cfg.train
    clip = options.get("clip_gradients")
    amp = options.get("amp", {"enabled": False})
    return MultiTaskTrainer(
        create_ddp(model, **options.get("ddp", {})),
        lambda start: build_train_loader(cfg, start),
        optimizer,
        seed=options.seed,
        amp_dtype=amp.get("dtype", "bfloat16") if amp.get("enabled") else None,
        clip_gradients=clip_each_network(gradient_clipper(**clip), model) if clip else None,
        log_period=options.get("log_period", 20),
        accumulate_steps=options.get("accumulate_steps", 1),
        max_bad_steps=options.get("max_bad_steps", 10),
        cosine_period=options.get("cosine_period", 0),
    )


def build_train_loader(cfg: DictConfig, start_batch: int) -> Any:
    """Instantiate cfg.dataloader.train, from a batch on if it can do that."""
    loader = cfg.dataloader.train
    target = locate(loader._target_) if isinstance(loader._target_, str) else loader._target_
    if "start_batch" in inspect.signature(target).parameters:
        loader.start_batch = start_batch
    elif start_batch:
        logger.warning("dataloader.train takes no start_batch: the resumed run sees its data from the beginning again.")
    return instantiate(loader)


def evaluate(cfg: DictConfig, model: nn.Module) -> Evaluation:
    """Score ``model`` by cfg.dataloader.evaluator on cfg.dataloader.test.

    Raises:
        ValueError: the config has no evaluator.
    """
    if "evaluator" not in cfg.dataloader:
        raise ValueError("the config has no dataloader.evaluator, so there is nothing to evaluate with.")
    start = time.perf_counter()
    evaluators = instantiate(cfg.dataloader.evaluator)
    if not isinstance(evaluators, DatasetEvaluator):
        evaluators = DatasetEvaluators(list(evaluators))
    model = unwrap(model)
    share_buffers(model)
    results = inference_on_dataset(model, instantiate(cfg.dataloader.test), evaluators)
    if not comm.is_main_process():
        return Evaluation()
    print_csv_format(results)
    return Evaluation(results=results, seconds=time.perf_counter() - start)
