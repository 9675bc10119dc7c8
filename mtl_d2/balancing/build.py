"""Balancers by name, from a config."""

from collections.abc import Collection, Sequence

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from .base import Balancer
from .fixed import FixedBalancer

BALANCER_REGISTRY = Registry("BALANCER")
BALANCER_REGISTRY.__doc__ = "Builders ``(cfg, tasks) -> Balancer`` for ``MODEL.MTL.BALANCER.NAME``."


@BALANCER_REGISTRY.register()
def fixed(cfg: CfgNode, tasks: Sequence[str]) -> Balancer:
    weights = cfg.MODEL.MTL.BALANCER.WEIGHTS
    return FixedBalancer({task: float(weights.get(task, 1.0)) for task in tasks})


def build_balancer(cfg: CfgNode, tasks: Sequence[str], known_tasks: Collection[str]) -> Balancer:
    """The balancer that the config names.

    Args:
        cfg: with ``MODEL.MTL.BALANCER``.
        tasks: the configured tasks.
        known_tasks: all registered tasks, to tell a misspelt weight from one that is not used.

    Raises:
        ValueError: the name is unknown, or a weight is given to a task that does not exist.
    """
    for key in cfg.MODEL.MTL.BALANCER.WEIGHTS:
        if key not in known_tasks:
            raise ValueError(
                f"MODEL.MTL.BALANCER.WEIGHTS.{key}: no task is called {key!r}; known are {sorted(known_tasks)}"
            )
    name = cfg.MODEL.MTL.BALANCER.NAME
    if name not in BALANCER_REGISTRY:
        known = sorted(key for key, _ in BALANCER_REGISTRY)
        raise ValueError(f"MODEL.MTL.BALANCER.NAME is {name!r}: expected one of {known}")
    return BALANCER_REGISTRY.get(name)(cfg, tasks)
