"""Learning-rate schedules: Detectron2's, for all parts of the network or for each over its own steps."""

from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.solver import build_lr_scheduler as build_shared_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, _LRScheduler

from .part_settings import part_value, part_window

PART_KEYS = ("LR_SCHEDULER_NAME", "STEPS", "GAMMA", "WARMUP_ITERS")


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Detectron2's scheduler, or, where the optimizer's groups name their parts, one with a function for each.

    Args:
        optimizer: of ``build_optimizer``.
    """
    parts = [group.get("part") for group in optimizer.param_groups]
    if not any(parts):
        return build_shared_scheduler(cfg, optimizer)
    # Functions, not objects: they depend on nothing but the step, so that LambdaLR stores none of them.
    functions = {part: build_multiplier(cfg, part or "") for part in dict.fromkeys(parts)}
    return _PartSchedule(optimizer, [functions[part] for part in parts])


class _PartSchedule(LambdaLR, _LRScheduler):
    """A scheduler of the class by which Detectron2's release 0.6 knows what to save and to load."""


def build_multiplier(cfg: CfgNode, part: str) -> Callable[[int], float]:
    """Return step -> factor of a part's learning rate: Detectron2's schedule over the part's steps, 0 outside.

    The warm-up begins at START and a cosine ends at STOP; STEPS are those of the run.
    """
    start, stop = part_window(cfg, part)
    own = cfg.clone()
    own.defrost()
    for key in PART_KEYS:
        own.SOLVER[key] = part_value(cfg, part, key)
    passed = [step for step in own.SOLVER.STEPS if step <= start]
    own.SOLVER.STEPS = tuple(step - start for step in own.SOLVER.STEPS if start < step < stop)
    own.SOLVER.MAX_ITER = stop - start
    try:
        scheduler = build_shared_scheduler(own, torch.optim.SGD([torch.zeros(1)], lr=1.0))
    except ValueError as error:
        raise ValueError(f"SOLVER.MTL.PARTS.{part}.LR_SCHEDULER_NAME: {error}") from error
    multi_step = own.SOLVER.LR_SCHEDULER_NAME == "WarmupMultiStepLR"
    begin = own.SOLVER.GAMMA ** len(passed) if multi_step else 1.0

    def multiplier(step: int) -> float:
        if not start <= step < stop:
            return 0.0
        scheduler.last_epoch = step - start
        return begin * scheduler.get_lr()[0]

    return multiplier


class PartRatesWriter(HookBase):
    """Logs ``lr/<part>``, the largest learning rate of each part, every ``period`` steps."""

    def __init__(self, optimizer: torch.optim.Optimizer, period: int = 20) -> None:
        self.optimizer = optimizer
        self.period = period

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period:
            return
        rates: dict[str, float] = {}
        for group in self.optimizer.param_groups:
            if part := group.get("part"):
                rates[f"lr/{part}"] = max(group["lr"], rates.get(f"lr/{part}", 0.0))
        self.trainer.storage.put_scalars(smoothing_hint=False, **rates)
