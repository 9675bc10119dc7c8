"""The training loop of a run, whatever kind of config its parts came from."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from .checkpoint import LoadReport, MultiTaskCheckpointer
from .ema import ModelEma
from .hooks import BestCheckpointer, build_progress_hooks
from .launch import unwrap
from .trainer import DivergedError, MultiTaskTrainer
from .weights_file import WeightsError

logger = logging.getLogger(__name__)


def fit(
    trainer: MultiTaskTrainer,
    scheduler: Any,
    *,
    max_iter: int,
    output_dir: str,
    weights: str = "",
    load_parts: Callable[[nn.Module, LoadReport], Any] | None = None,
    resume: bool = False,
    evaluate: Callable[[], dict[str, Any]] | None = None,
    eval_period: int = 0,
    checkpoint_period: int = 0,
    best_metric: str = "",
    ema: ModelEma | None = None,
    more_hooks: Sequence[HookBase] = (),
) -> None:
    """Load weights or the last checkpoint, then train until ``max_iter``, saving and evaluating on the way.

    Args:
        scheduler: a torch LR scheduler, or a fvcore ``ParamScheduler`` (a multiplier over the base LR).
        weights: path or URL of the initial weights; empty for none.
        load_parts: loads parts of a model from other files on top of ``weights``, of which it gets the report; not
            called where a run goes on.
        resume: go on from the last checkpoint in ``output_dir``, if there is one.
        evaluate: gives ``{group: {figure: value}}`` on the main process; called on every rank.
        eval_period: iterations between evaluations; 0 for one at the end only.
        checkpoint_period: iterations between checkpoints; 0 for ``model_final.pth`` only.
        best_metric: such as "segm/AP": its best weights are kept as ``model_best.pth``.
        ema: of the trainer's model; checkpoints hold its average as ``model``. ``evaluate`` is to score that too.
        more_hooks: called before those that save, evaluate and write.

    Raises:
        WeightsError: see :meth:`.MultiTaskCheckpointer.resume_or_load`; or the run has more iterations than that.
        DivergedError: too many steps in a row had to be skipped; a checkpoint with the weights from before is written.
            On every rank.
    """
    main_process = comm.is_main_process()
    if main_process:
        os.makedirs(output_dir, exist_ok=True)
    checkpointer = _build_checkpointer(trainer, output_dir, ema)
    best = []
    if best_metric and evaluate:
        higher = is_higher_better(trainer.model, best_metric)
        best = [BestCheckpointer(eval_period, checkpointer, best_metric, higher_is_better=higher)]
    saving = hooks.PeriodicCheckpointer(checkpointer, checkpoint_period or max_iter + 1)
    # The checkpoint is saved before the evaluation, so that one that fails costs no training.
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            *more_hooks,
            hooks.CallbackHook(after_step=lambda trainer: ema.update(trainer.iter)) if ema else None,
            hooks.LRScheduler(trainer.optimizer, scheduler),
            saving if main_process else None,
            hooks.EvalHook(eval_period, evaluate) if evaluate else None,
            *(best if main_process else []),
            *build_progress_hooks(output_dir, max_iter, trainer.log_period),
        ]
    )
    start_iter = _load(trainer, checkpointer, weights, load_parts, resume=resume)
    if ema:
        ema.start()
    if start_iter > max_iter:
        raise WeightsError(
            f"The run in {output_dir} has {start_iter} iterations, more than SOLVER.MAX_ITER (train.max_iter of a "
            f"LazyConfig), {max_iter}: say the longer one, or score it with --eval-only."
        )
    if start_iter == max_iter:
        logger.info("The run in %s has its %d iterations already: only its evaluation is done.", output_dir, max_iter)
        if evaluate:
            _end_again(trainer, max_iter)
        return
    _train(trainer, checkpointer, start_iter, max_iter)


def _load(
    trainer: MultiTaskTrainer,
    checkpointer: MultiTaskCheckpointer,
    weights: str,
    load_parts: Callable[[nn.Module, LoadReport], Any] | None,
    *,
    resume: bool,
) -> int:
    """Load what a run goes on from, or starts from; return its first iteration."""
    resumed = resume and checkpointer.last_file() != ""
    checkpointer.resume_or_load(weights, resume=resumed)
    if load_parts and not resumed:
        load_parts(unwrap(checkpointer.model), checkpointer.report)
    return trainer.iter + 1 if resumed else 0  # a checkpoint names the last iteration that is in it


def _train(trainer: MultiTaskTrainer, checkpointer: MultiTaskCheckpointer, start_iter: int, max_iter: int) -> None:
    trainer.open_loader(start_iter)
    try:
        trainer.train(start_iter, max_iter)
    except DivergedError:
        if comm.is_main_process():  # the weights are those from before: nothing that was trained is lost
            checkpointer.save(f"model_{trainer.iter:07d}")
        comm.synchronize()  # a process that ends with an error ends the others, and the writing must be done by then
        raise


def _end_again(trainer: MultiTaskTrainer, max_iter: int) -> None:
    """What comes after the last step of a run: the evaluation, the best weights by it, and its figures in the log."""
    trainer.iter = trainer.start_iter = trainer.max_iter = max_iter
    last = [
        hook for hook in trainer._hooks if isinstance(hook, hooks.EvalHook | BestCheckpointer | hooks.PeriodicWriter)
    ]
    with EventStorage(max_iter - 1) as trainer.storage:
        for hook in last:
            hook.before_train()
        for hook in last:
            hook.after_train()


def _build_checkpointer(trainer: MultiTaskTrainer, output_dir: str, ema: ModelEma | None) -> MultiTaskCheckpointer:
    if ema is None:
        return MultiTaskCheckpointer(trainer.model, output_dir, trainer=trainer)
    return MultiTaskCheckpointer(ema.average, output_dir, trainer=trainer, raw_model=ema)


def is_higher_better(model: nn.Module, metric: str) -> bool:
    """What the task says whose metric it is, with or without the name of a dataset before it; True for any other."""
    branches = getattr(unwrap(model), "branches", {}).values()
    own = (branch for branch in branches if branch.metric and f"/{metric}".endswith(f"/{branch.metric}"))
    return all(branch.higher_is_better for branch in own)
