"""SOLVER.MTL.PARTS: what a config says of the parts of a network."""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..balancing import build_balancer
from ..config import add_mtl_config, add_part
from ..tasks import known_tasks
from .parts import BALANCER

_PARTS = "SOLVER.MTL.PARTS"


def part_settings(cfg: CfgNode, part: str) -> CfgNode:
    """Return cfg.SOLVER.MTL.PARTS.<part>; the defaults for one that has no node."""
    return cfg.SOLVER.MTL.PARTS.get(part) or _defaults(part)


def has_own_settings(cfg: CfgNode) -> bool:
    """Whether any part differs from the defaults."""
    return any(dict(settings) != dict(_defaults(part)) for part, settings in cfg.SOLVER.MTL.PARTS.items())


def part_window(cfg: CfgNode, part: str) -> tuple[int, int]:
    """Return the steps ``[start, stop)`` in which a part is trained."""
    settings = part_settings(cfg, part)
    return settings.START, cfg.SOLVER.MAX_ITER if settings.STOP == -1 else settings.STOP


def part_value(cfg: CfgNode, part: str, key: str) -> Any:
    """Return a key of SOLVER for a part: its own value where it has one."""
    own = part_settings(cfg, part).get(key)
    return cfg.SOLVER[key] if own is None else own


def check_parts(cfg: CfgNode) -> None:
    """Raise ValueError, naming the key, for a factor out of its range, steps outside of the run, or no parameters."""
    for part, settings in cfg.SOLVER.MTL.PARTS.items():
        _check_factors(f"{_PARTS}.{part}", settings)
        check_steps(f"{_PARTS}.{part}", {"START": settings.START, "STOP": settings.STOP}, cfg.SOLVER.MAX_ITER)
        start, stop = part_window(cfg, part)
        if not isinstance(settings.STEPS, list | tuple | None):
            raise ValueError(f"{_PARTS}.{part}.STEPS is {settings.STEPS!r}; expected a list of steps, such as [100].")
        outside = [step for step in settings.STEPS or () if not start < step < stop]
        if outside:
            raise ValueError(
                f"{_PARTS}.{part}.STEPS names step {outside[0]}, expected steps between the part's first and last, "
                f"{start} and {stop}."
            )
    _check_balancer(cfg)


def check_steps(where: str, bounds: dict[str, int], max_iter: int) -> None:
    """Raise ValueError unless the two values are steps of the run, the first before the second; -1 is the last."""
    (first, start), (last, stop) = bounds.items()
    for key, step in bounds.items():
        if isinstance(step, bool) or not isinstance(step, int):
            raise ValueError(f"{where}: {key} is {step!r}; expected the number of a step.")
    stop = max_iter if stop == -1 else stop
    for key, step in ((first, start), (last, stop)):
        if not 0 <= step <= max_iter:
            raise ValueError(f"{where}: {key} is {step}; expected a step of the run, 0 to SOLVER.MAX_ITER {max_iter}.")
    if start >= stop:
        raise ValueError(f"{where}: {first} is {start} and {last} is {stop}; expected {first} before {last}.")


def _check_factors(where: str, settings: CfgNode) -> None:
    ranges = {"LR_FACTOR": (0.0, math.inf), "WEIGHT_DECAY": (0.0, math.inf), "LAYER_DECAY": (0.0, 1.0)}
    for key, (low, high) in ranges.items():
        value = settings.get(key)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            expected = "a finite number of at least 0" if high == math.inf else f"a number from {low} to {high}"
            raise ValueError(f"{where}.{key} is {value}; expected {expected}.")


def _check_balancer(cfg: CfgNode) -> None:
    """What is said of the balancer as a part acts on its parameters: without any it would be ignored."""
    own = part_settings(cfg, BALANCER)
    keys = [f"{_PARTS}.{BALANCER}.{key}" for key, value in own.items() if value != _defaults(BALANCER)[key]]
    freeze = cfg.SOLVER.MTL.SCHEDULE.FREEZE
    if any(isinstance(entry, Mapping) and entry.get("PART") == BALANCER for entry in freeze):
        keys.append(f"SOLVER.MTL.SCHEDULE.FREEZE of {BALANCER}")
    if keys and not list(build_balancer(cfg, cfg.MODEL.MTL.TASKS, known_tasks()).parameters()):
        raise ValueError(
            f"{keys[0]} is set, but MODEL.MTL.BALANCER.NAME {cfg.MODEL.MTL.BALANCER.NAME!r} learns no parameters, so "
            "that there is nothing to train or freeze: leave it out, or choose one that does, such as 'uncertainty'."
        )


@cache
def _defaults(part: str) -> CfgNode:
    cfg = get_cfg()
    add_mtl_config(cfg)
    add_part(cfg, part)
    return cfg.SOLVER.MTL.PARTS[part]
