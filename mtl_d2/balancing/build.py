"""Balancers by name, from a config."""

from collections.abc import Collection, Sequence

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from .base import Balancer, check_weight
from .dwa import DWABalancer
from .famo import FAMOBalancer
from .fixed import FixedBalancer
from .geometric_mean import GeometricMeanBalancer
from .gradient import GradientBalancer
from .imtl_l import IMTLLBalancer
from .rlw import RLWBalancer
from .stch import STCHBalancer
from .uncertainty import UncertaintyBalancer

BALANCER_REGISTRY = Registry("BALANCER")
BALANCER_REGISTRY.__doc__ = "Builders ``(cfg, tasks) -> Balancer | GradientBalancer`` for ``MODEL.MTL.BALANCER.NAME``."


# Methods that have no options.
_PLAIN: dict[str, type[Balancer]] = {
    "fixed": FixedBalancer,
    "uncertainty": UncertaintyBalancer,
    "imtl_l": IMTLLBalancer,
    "geometric_mean": GeometricMeanBalancer,
}


def _register(name: str) -> None:
    def build(cfg: CfgNode, tasks: Sequence[str]) -> Balancer:
        return _PLAIN[name](prior_weights(cfg, tasks))

    BALANCER_REGISTRY._do_register(name, build)


for _name in _PLAIN:
    _register(_name)


@BALANCER_REGISTRY.register()
def equal(cfg: CfgNode, tasks: Sequence[str]) -> Balancer:
    return FixedBalancer(dict.fromkeys(tasks, 1.0))


@BALANCER_REGISTRY.register()
def dwa(cfg: CfgNode, tasks: Sequence[str]) -> Balancer:
    options = cfg.MODEL.MTL.BALANCER.DWA
    return DWABalancer(prior_weights(cfg, tasks), period=options.PERIOD, temperature=options.TEMPERATURE)


@BALANCER_REGISTRY.register()
def rlw(cfg: CfgNode, tasks: Sequence[str]) -> Balancer:
    # The engine has drawn a SEED that all ranks share; a model that is built outside it may have the default, -1.
    return RLWBalancer(prior_weights(cfg, tasks), seed=max(cfg.SEED, 0))


@BALANCER_REGISTRY.register()
def stch(cfg: CfgNode, tasks: Sequence[str]) -> Balancer:
    options = cfg.MODEL.MTL.BALANCER.STCH
    return STCHBalancer(prior_weights(cfg, tasks), mu=options.MU, warmup=options.WARMUP)


@BALANCER_REGISTRY.register()
def famo(cfg: CfgNode, tasks: Sequence[str]) -> Balancer:
    options = cfg.MODEL.MTL.BALANCER.FAMO
    return FAMOBalancer(prior_weights(cfg, tasks), lr=options.LR, gamma=options.GAMMA)


def prior_weights(cfg: CfgNode, tasks: Sequence[str]) -> dict[str, float]:
    """``{task: alpha}`` of the configured tasks; one that MODEL.MTL.BALANCER.WEIGHTS does not name weighs 1."""
    weights = cfg.MODEL.MTL.BALANCER.WEIGHTS
    return {task: float(weights.get(task, 1.0)) for task in tasks}


def build_balancer(cfg: CfgNode, tasks: Sequence[str], known_tasks: Collection[str]) -> Balancer | GradientBalancer:
    """The balancer that the config names.

    Args:
        cfg: with ``MODEL.MTL.BALANCER``.
        tasks: the configured tasks.
        known_tasks: all registered tasks, to tell a misspelt weight from one that is not used.

    Raises:
        ValueError: the name is unknown, an option is out of its range, or a weight is negative, not finite, or given
            to a task that does not exist.
        ImportError: the method needs a package that is not installed.
    """
    options = cfg.MODEL.MTL.BALANCER
    for key, weight in options.WEIGHTS.items():
        if key not in known_tasks:
            raise ValueError(
                f"MODEL.MTL.BALANCER.WEIGHTS.{key}: no task is called {key!r}; known are {sorted(known_tasks)}"
            )
        check_weight(key, weight)
    if options.NAME not in BALANCER_REGISTRY:
        known = sorted(key for key, _ in BALANCER_REGISTRY)
        raise ValueError(f"MODEL.MTL.BALANCER.NAME is {options.NAME!r}: expected one of {known}")
    return BALANCER_REGISTRY.get(options.NAME)(cfg, tasks)
