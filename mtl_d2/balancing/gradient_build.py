"""Gradient balancers by name, from a config."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from .build import BALANCER_REGISTRY, prior_weights
from .gradient import GradientBalancer
from .gradient_torchjd import GramianBalancer, NashMTLBalancer
from .gradnorm import GradNormBalancer


class MissingExtraError(ImportError):
    """A method needs a package that is not installed; the message names it and how to install it."""


# {name: (torchjd's class, whether its weights are those of a mean)}
_GRAMIAN_METHODS = {
    "pcgrad": ("PCGradWeighting", False),  # Yu et al. 2020, Gradient Surgery for Multi-Task Learning
    "mgda": ("MGDAWeighting", True),  # Sener and Koltun 2018, Multi-Task Learning as Multi-Objective Optimization
    "cagrad": ("CAGradWeighting", True),  # Liu et al. 2021, Conflict-Averse Gradient Descent for Multi-task Learning
    "imtl_g": ("IMTLGWeighting", True),  # Liu et al. 2021, Towards Impartial Multi-task Learning
    "aligned_mtl": ("AlignedMTLWeighting", True),  # Senushkin et al. 2023, Independent Component Alignment for MTL
    "upgrad": ("UPGradWeighting", True),  # Quinton and Rey 2024, Jacobian Descent for Multi-Objective Optimization
}


def _register(name: str) -> None:
    def build(cfg: CfgNode, tasks: Sequence[str]) -> GradientBalancer:
        kind, gives_mean = _GRAMIAN_METHODS[name]
        options = {"c": float(cfg.MODEL.MTL.BALANCER.CAGRAD.C)} if name == "cagrad" else {}
        weighting = _torchjd(name, kind, **options)
        return GramianBalancer(prior_weights(cfg, tasks), weighting, gives_mean=gives_mean, **_common(cfg))

    BALANCER_REGISTRY._do_register(name, build)


for _name in _GRAMIAN_METHODS:
    _register(_name)


@BALANCER_REGISTRY.register()
def nash_mtl(cfg: CfgNode, tasks: Sequence[str]) -> GradientBalancer:
    node = cfg.MODEL.MTL.BALANCER.NASH_MTL
    options = {"max_norm": float(node.MAX_NORM), "update_weights_every": 1, "optim_niter": node.ITERATIONS}
    _torchjd("nash_mtl", "NashMTL", n_tasks=len(tasks), **options)  # now, and not in the first step, what is missing
    return NashMTLBalancer(
        prior_weights(cfg, tasks), lambda n: _torchjd("nash_mtl", "NashMTL", n_tasks=n, **options), **_common(cfg)
    )


@BALANCER_REGISTRY.register()
def gradnorm(cfg: CfgNode, tasks: Sequence[str]) -> GradientBalancer:
    options = cfg.MODEL.MTL.BALANCER.GRADNORM
    return GradNormBalancer(
        prior_weights(cfg, tasks), asymmetry=float(options.ASYMMETRY), lr=float(options.LR), **_common(cfg)
    )


def _common(cfg: CfgNode) -> dict[str, Any]:
    options = cfg.MODEL.MTL.BALANCER.GRADIENT
    return {"cut": options.CUT, "period": options.PERIOD}


def _torchjd(name: str, kind: str, **options: Any) -> Any:
    """An object of ``torchjd.aggregation``, with what it needs beside torchjd.

    Raises:
        MissingExtraError: that is not installed.
        ValueError: an option is out of its range.
    """
    try:
        from torchjd import aggregation  # here: it takes seconds, and most runs do without

        return getattr(aggregation, kind)(**options)
    except (ImportError, AttributeError) as error:  # the latter: a release without that class
        raise MissingExtraError(
            f"MODEL.MTL.BALANCER.NAME is {name!r}, which needs torchjd with its extras: pip install 'mtl_d2[balance]' "
            f"(or, in a clone, pip install -e '.[balance]'); found: {error}"
        ) from error
    except ValueError as error:
        raise ValueError(f"MODEL.MTL.BALANCER.{name.upper()}: {error}") from error
