"""What is said of a config that cannot be trained: before a process starts, and for all stages before the first."""

import torch
from detectron2.config import CfgNode
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from torch import nn

from ..balancing import GradientBalancer, MissingExtraError, build_balancer
from ..data.mixing import check_settings
from ..separate_networks import SeparateTaskNetworks
from ..tasks import get_task, known_tasks
from .bad_steps import BadSteps
from .ema import check_decay
from .lr_schedule import build_multiplier
from .optimizer import build_gradient_clipper, check_optimizer, check_rates
from .part_settings import has_own_settings
from .parts import BALANCER
from .precision import check_amp_dtype
from .stages import read_stages
from .task_schedule import TaskSchedule
from .task_step import check_step, part_size
from .trial_network import build_trial

_SYNCHRONISED = nn.SyncBatchNorm | NaiveSyncBatchNorm


def check_solver(cfg: CfgNode, processes: int = 1) -> None:
    """Check what can be said of a training, in each of its stages, without its data.

    Args:
        processes: of the job, which share SOLVER.IMS_PER_BATCH.

    Raises:
        ValueError: naming the key, for what cannot be trained with.
        MissingExtraError: the balancer needs a package that is not installed.
    """
    stages = read_stages(cfg)
    for stage in stages:
        try:
            check_solver(stage.cfg, processes)
        except (ValueError, MissingExtraError) as error:
            raise type(error)(f"SOLVER.MTL.STAGES, stage {stage.name!r}: {error}") from error
    if not stages:
        _check_run(cfg, processes)


def check_network(cfg: CfgNode, processes: int = 1) -> nn.Module:
    """Check the tasks, their balancer and their network, and return it; see :func:`check_solver` for the rest."""
    tasks = list(cfg.MODEL.MTL.TASKS)
    if not tasks or len(set(tasks)) < len(tasks):
        raise ValueError(f"MODEL.MTL.TASKS is {tasks}: name at least one of {known_tasks()}, and none twice")
    for task in tasks:
        get_task(task)
    build_balancer(cfg, tasks, known_tasks())
    network = build_trial(cfg)
    if processes > 1:
        _check_norms(network)
    return network


def _check_norms(network: nn.Module) -> None:
    """A process without labels of a task leaves out its head, for whose statistics the others would wait for ever."""
    for task, branch in getattr(network, "branches", {}).items():
        for name, part in branch.owned_modules.items():
            if any(isinstance(module, _SYNCHRONISED) for module in part.modules()):
                raise ValueError(
                    f"{name}, of the task {task!r}, has a synchronised batch norm, for which all processes wait though "
                    "those without its labels leave it out: take GN or BN as its NORM."
                )


def _check_trunk_norms(cfg: CfgNode, network: nn.Module, schedule: TaskSchedule) -> None:
    """Where a process may leave out the trunk's backward pass, or the neck's forward pass, of a task."""
    balancer = getattr(network, "balancer", None)
    changing = any({*schedule.active(step)} != {*schedule.tasks} for step in schedule.distinct_steps())
    reasons = {
        "MODEL.META_ARCHITECTURE SeparateTaskNetworks": isinstance(network, SeparateTaskNetworks),
        "a SOLVER.MTL.SCHEDULE or PARTS that let tasks come and go": changing,
        f"MODEL.MTL.BALANCER.NAME {cfg.MODEL.MTL.BALANCER.NAME}": isinstance(balancer, GradientBalancer),
    }
    why = next((reason for reason, holds in reasons.items() if holds), "")
    of_neck = why or ("MODEL.MTL.BALANCER.COSINE_PERIOD" if cfg.MODEL.MTL.BALANCER.COSINE_PERIOD else "")
    for name, module in network.named_modules():
        part = next((part for part in ("backbone", "neck") if part in name.split(".")), "")
        reason = {"backbone": why, "neck": of_neck}.get(part, "")
        if reason and isinstance(module, _SYNCHRONISED):
            raise ValueError(
                f"{name} is a synchronised batch norm, for which all processes wait though with {reason} one without "
                "labels of a task leaves out its pass: take FrozenBN, GN or BN as the NORM of backbone and neck."
            )


def _check_run(cfg: CfgNode, processes: int) -> None:
    solver = cfg.SOLVER
    if solver.MAX_ITER < 1:
        raise ValueError(f"SOLVER.MAX_ITER is {solver.MAX_ITER}; expected at least 1 step.")
    network = check_network(cfg, processes)
    check_settings(cfg)
    check_optimizer(cfg)
    check_rates(cfg)
    build_gradient_clipper(cfg)
    check_amp_dtype(solver.MTL.AMP_DTYPE if solver.AMP.ENABLED else None, torch.device(cfg.MODEL.DEVICE).type)
    BadSteps(solver.MTL.MAX_BAD_STEPS)
    check_step(solver.MTL.ACCUMULATE_STEPS, cfg.MODEL.MTL.BALANCER.COSINE_PERIOD)
    _check_batch(cfg, processes)
    schedule = TaskSchedule.from_config(cfg)
    if processes > 1:
        _check_trunk_norms(cfg, network, schedule)
    if SeparateTaskNetworks.__name__ == cfg.MODEL.META_ARCHITECTURE:
        _check_separate(cfg)
    for part in solver.MTL.PARTS if has_own_settings(cfg) else ():
        build_multiplier(cfg, part)
    if solver.MTL.EMA.ENABLED:
        check_decay(solver.MTL.EMA.DECAY)
    if solver.REFERENCE_WORLD_SIZE and (has_own_settings(cfg) or solver.MTL.SCHEDULE.FREEZE):
        raise ValueError(
            "SOLVER.REFERENCE_WORLD_SIZE scales the steps of SOLVER, not those of SOLVER.MTL.PARTS and SCHEDULE: "
            "set it to 0."
        )


def _check_batch(cfg: CfgNode, processes: int) -> None:
    """The images of a step are shared by the processes, and those of a process by its parts."""
    images, sharers, who = cfg.SOLVER.IMS_PER_BATCH, processes, "the number of processes"
    if cfg.SOLVER.REFERENCE_WORLD_SIZE:  # with other processes than these the images become more or fewer
        sharers, who = cfg.SOLVER.REFERENCE_WORLD_SIZE, "SOLVER.REFERENCE_WORLD_SIZE"
    if images < 1 or images % sharers:
        raise ValueError(f"SOLVER.IMS_PER_BATCH: found {images}, expected a multiple of {who}, {sharers}.")
    part_size(images // sharers, cfg.SOLVER.MTL.ACCUMULATE_STEPS)


def _check_separate(cfg: CfgNode) -> None:
    for key, found, expected in (
        ("SOLVER.MTL.ACCUMULATE_STEPS", cfg.SOLVER.MTL.ACCUMULATE_STEPS, 1),
        ("MODEL.MTL.BALANCER.COSINE_PERIOD", cfg.MODEL.MTL.BALANCER.COSINE_PERIOD, 0),
    ):
        if found != expected:
            raise ValueError(f"{key} is {found}; separate networks need {expected}.")
    if any(entry["PART"] == BALANCER for entry in cfg.SOLVER.MTL.SCHEDULE.FREEZE):
        raise ValueError("SOLVER.MTL.SCHEDULE.FREEZE names the balancer, which separate networks do without: drop it.")
