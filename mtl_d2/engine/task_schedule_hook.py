"""The hook that makes a model, its gradients and its batch norms follow a TaskSchedule."""

from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..balancing import GradientBalancer
from .launch import share_buffers
from .parts import BALANCER, find_parts, own_trunk, parameters_of
from .task_schedule import TaskSchedule


class TaskScheduleHook(HookBase):
    """Sets ``model.active_tasks`` before each step, and takes the gradients of idle parts away after the backward.

    Idle are the tasks that are not active and the parts that are frozen. Without a gradient neither momentum nor
    weight decay moves a parameter, and its optimizer state stays as it is: it goes on from there once the part is
    trained again, or from nothing if the schedule says ``reset_momentum``. Batch norms of a frozen part use their
    statistics and leave them as they are (those of rank 0, on all ranks).

    In one process the gradients of frozen parts are not computed. DistributedDataParallel waits for all of them, so
    that there only what is frozen in the whole run costs nothing. It is not asked where a balancer weighs gradients,
    and that one must not weigh those of a frozen trunk on two processes when it would not on one.

    Args:
        schedule: which tasks and parts are trained in which step.
        model: not yet wrapped for DDP.
        log_period: steps between two entries of ``active/<task>``, the share of the steps with that task.

    Raises:
        ValueError: the schedule names a part that the model lacks, or freezes a balancer that learns no parameters.
    """

    def __init__(self, schedule: TaskSchedule, model: nn.Module, log_period: int = 20) -> None:
        self.schedule = schedule
        self.model: Any = model
        self.log_period = log_period
        self.parts = find_parts(model)
        named = {*schedule.tasks, *(entry["PART"] for entry in schedule.freeze)}
        if not named <= set(self.parts):
            raise ValueError(
                f"the schedule names {', '.join(sorted(named - set(self.parts)))}; expected parts of the model, "
                f"which has {', '.join(sorted(self.parts))}."
            )
        self.trainable = {
            part: [p for p in parameters_of(modules) if p.requires_grad] for part, modules in self.parts.items()
        }
        self._own_trunks = {task: own_trunk(model, task) for task in schedule.tasks}
        weighs_gradients = isinstance(getattr(model, BALANCER, None), GradientBalancer)
        self._ddp_waits = comm.get_world_size() > 1 and not weighs_gradients
        steps = list(schedule.distinct_steps())
        if any(BALANCER in schedule.frozen(step) for step in steps) and self.trainable.get(BALANCER) == []:
            raise ValueError(
                f"the schedule freezes the balancer, but a {type(self.model.balancer).__name__} learns no parameters: "
                "leave that out."
            )
        self._for_good = {part for part in self.parts if all(part in schedule.frozen(step) for step in steps)}
        for part in self._for_good:
            self._require_grad(part, False)
        self._frozen: frozenset[str] = frozenset()
        self._idle: list[nn.Parameter] = []

    def before_step(self) -> None:
        step = self.trainer.iter
        active, frozen = self.schedule.active(step), self.schedule.frozen(step) & self.parts.keys()
        self.model.active_tasks = active
        self._freeze(frozen)
        inactive = [task for task in self.schedule.tasks if task not in active]
        idle = {*frozen, *inactive}
        # A module of several tasks moves with any of them, a frozen part with none.
        moved = {p for task in active if task not in frozen for p in self.trainable[task]}
        self._idle = [p for part in idle for p in self.trainable[part] if p not in moved or part in frozen]
        self._idle += [p for task in inactive for p in self._own_trunks[task]]
        if self.schedule.reset_momentum:
            for part in self.schedule.thawed(step):
                for p in self.trainable[part]:
                    self.trainer.optimizer.state.pop(p, None)

    def after_backward(self) -> None:
        for p in self._idle:
            p.grad = None

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.log_period == 0:
            for task in self.schedule.tasks:
                share = self.schedule.share(task, done - self.log_period, done)
                self.trainer.storage.put_scalar(f"active/{task}", share, smoothing_hint=False)

    def after_train(self) -> None:
        self.model.active_tasks = None
        self._freeze(frozenset())

    def _freeze(self, frozen: frozenset[str]) -> None:
        for part in self._frozen - frozen:
            self._require_grad(part, True)
            self._train_norms(part, True)
        for part in sorted(frozen - self._frozen):  # a set's order differs between processes
            self._require_grad(part, False)
            for module in self.parts[part]:
                share_buffers(module)
        for part in frozen:  # in every step: an evaluation leaves the whole model in training mode
            self._train_norms(part, False)
        self._frozen = frozen

    def _require_grad(self, part: str, required: bool) -> None:
        if not self._ddp_waits or part in self._for_good:
            for p in self.trainable[part]:
                p.requires_grad_(required)

    def _train_norms(self, part: str, training: bool) -> None:
        for module in self.parts[part]:
            for norm in module.modules():
                if isinstance(norm, _BatchNorm):
                    norm.train(training)
