"""Which tasks are trained in which step of a run, and which parts of the network stand still."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.config import CfgNode

from .part_settings import check_parts, check_steps, part_window
from .parts import BACKBONE, BALANCER, NECK

_KEY = "SOLVER.MTL.SCHEDULE"
_NAMES = ("joint", "alternating")
_FREEZE_KEYS = {"PART", "FROM", "TO"}


@dataclass(frozen=True)
class TaskSchedule:
    """A function of the step alone, so that a resumed run goes on as if it had not stopped.

    Attributes:
        tasks: of the network.
        max_iter: steps of the run.
        name: "joint", all tasks in every step, or "alternating", one in every step.
        pattern: of "alternating": tasks in turn, from the first step on; () for each once. A task outside of its
            window is left out.
        period: of "alternating": steps of a turn.
        trunk: parts that all tasks share.
        windows: ``{part: (start, stop)}``: a task is active, the trunk or the balancer trained, in these steps
            alone; in all of the run if not named.
        freeze: ``{"PART": part, "FROM": start, "TO": stop}`` each: the part stands still in the steps [start, stop);
            -1 for the end. A task's losses still train the other parts.
        reset_momentum: a part that ``freeze`` lets go starts with an empty optimizer state.

    Raises:
        ValueError: a name, task or part that there is not, steps outside of the run, a task that is never active, or
            a step that trains nothing.
    """

    tasks: Sequence[str]
    max_iter: int
    name: str = "joint"
    pattern: Sequence[str] = ()
    period: int = 1
    trunk: Sequence[str] = (BACKBONE,)
    windows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    freeze: Sequence[Mapping[str, Any]] = ()
    reset_momentum: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "TaskSchedule":
        """From SOLVER.MTL.SCHEDULE and the START and STOP of SOLVER.MTL.PARTS; see the class for errors."""
        check_parts(cfg)
        options = cfg.SOLVER.MTL.SCHEDULE
        tasks = tuple(cfg.MODEL.MTL.TASKS)
        trunk = (BACKBONE,) if cfg.MODEL.MTL.NECK.NAME == "identity" else (BACKBONE, NECK)
        return cls(
            tasks=tasks,
            max_iter=cfg.SOLVER.MAX_ITER,
            name=options.NAME,
            pattern=tuple(options.PATTERN),
            period=options.PERIOD,
            trunk=trunk,
            windows={part: part_window(cfg, part) for part in (*trunk, *tasks, BALANCER)},
            freeze=tuple(options.FREEZE),
            reset_momentum=options.RESET_MOMENTUM,
        )

    def __post_init__(self) -> None:
        self._check_names()
        self._check_freeze()
        if not self.is_joint:
            self._check_steps()

    @property
    def is_joint(self) -> bool:
        """Whether all parts are trained by all tasks in every step."""
        whole = all(tuple(window) == (0, self.max_iter) for window in self.windows.values())
        return whole and self.name == "joint" and not self.freeze

    def active(self, step: int) -> tuple[str, ...]:
        """The tasks whose losses count in a step."""
        running = [task for task in self.tasks if self._in_window(task, step)]
        if self.name == "joint":
            return tuple(running)
        turns = [task for task in self.pattern or self.tasks if task in running]
        return (turns[step // self.period % len(turns)],) if turns else ()

    def frozen(self, step: int) -> frozenset[str]:
        """The parts that no loss moves in a step."""
        outside = {part for part in (*self.trunk, BALANCER) if not self._in_window(part, step)}
        return frozenset(outside | self._held(step))

    def thawed(self, step: int) -> frozenset[str]:
        """The parts that ``freeze`` held in the step before, and not in this one."""
        return frozenset(self._held(step - 1) - self._held(step)) if step else frozenset()

    def share(self, task: str, start: int, stop: int) -> float:
        """The fraction of the steps [start, stop) in which a task is active."""
        return sum(task in self.active(step) for step in range(start, stop)) / (stop - start)

    def distinct_steps(self) -> Iterator[int]:
        """Steps among which is one like each step of the run: one round of turns after each change."""
        freeze = [(entry["FROM"], entry["TO"]) for entry in self.freeze]
        bounds = {0, *(step for pair in (*self.windows.values(), *freeze) for step in pair)}
        changes = sorted(step for step in bounds if 0 <= step < self.max_iter)
        turns = 1 if self.name == "joint" else len(self.pattern or self.tasks) * self.period
        for change, following in zip(changes, [*changes[1:], self.max_iter], strict=True):
            yield from range(change, min(change + turns, following))

    def _in_window(self, part: str, step: int) -> bool:
        start, stop = self.windows.get(part, (0, self.max_iter))
        return start <= step < stop

    def _held(self, step: int) -> set[str]:
        return {f["PART"] for f in self.freeze if f["FROM"] <= step < (self.max_iter if f["TO"] == -1 else f["TO"])}

    def _check_names(self) -> None:
        if self.name not in _NAMES:
            raise ValueError(f"{_KEY}.NAME is {self.name!r}; expected one of {list(_NAMES)}.")
        unknown = [task for task in self.pattern if task not in self.tasks]
        if unknown:
            raise ValueError(
                f"{_KEY}.PATTERN names {unknown[0]!r}; expected tasks of MODEL.MTL.TASKS {list(self.tasks)}."
            )
        if self.period < 1:
            raise ValueError(f"{_KEY}.PERIOD is {self.period}; expected at least 1 step.")

    def _check_freeze(self) -> None:
        parts = [*self.trunk, *self.tasks, BALANCER]
        for entry in self.freeze:
            if not isinstance(entry, Mapping) or set(entry) != _FREEZE_KEYS:
                raise ValueError(
                    f"{_KEY}.FREEZE has {entry!r}; expected entries such as {{PART: backbone, FROM: 0, TO: 500}}."
                )
            if entry["PART"] not in parts:
                raise ValueError(f"{_KEY}.FREEZE names the part {entry['PART']!r}; this network has {parts}.")
            check_steps(f"{_KEY}.FREEZE of {entry['PART']}", {key: entry[key] for key in ("FROM", "TO")}, self.max_iter)

    def _check_steps(self) -> None:
        seen: set[str] = set()
        for step in self.distinct_steps():
            active = self.active(step)
            seen.update(active)
            if not active:
                raise ValueError(
                    f"no task is active in step {step}: its steps are before START or from STOP on for all tasks "
                    "in SOLVER.MTL.PARTS."
                )
            if {*self.trunk, *active} <= self.frozen(step):
                raise ValueError(
                    f"nothing is trained in step {step}: {_KEY} has {', '.join(active)} active, and FREEZE holds "
                    f"that and {' and '.join(self.trunk)}."
                )
        never = [task for task in self.tasks if task not in seen]
        if never:
            raise ValueError(
                f"task {never[0]!r} is never active: give it a turn in {_KEY}.PATTERN within the steps START to STOP "
                f"of SOLVER.MTL.PARTS.{never[0]}, or drop it from MODEL.MTL.TASKS."
            )
