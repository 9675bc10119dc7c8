"""The optimizer and the gradient clipping that a config asks for."""

from collections.abc import Callable, Iterable

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler as build_shared_scheduler
from detectron2.solver.build import get_default_optimizer_params, reduce_param_groups
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from ..separate_networks import SeparateTaskNetworks
from .part_settings import check_parts, has_own_settings, part_settings
from .parts import BACKBONE, BALANCER, find_parts, layer_factors, parameters_of

GradientClipper = Callable[[Iterable[nn.Parameter]], None]

_OPTIMIZERS = {"SGD": torch.optim.SGD, "ADAM": torch.optim.Adam, "ADAMW": torch.optim.AdamW}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build cfg.SOLVER.MTL.OPTIMIZER with Detectron2's parameter groups; with PARTS, those of each part for itself.

    A group of a part names it under the key ``part``; while all of cfg.SOLVER.MTL.PARTS is at its defaults, groups
    hold parameters of several parts and have no such key. The balancer's learned state gets no weight decay unless
    its part has one: decay would pull the log variances towards equal weights. Clipping is not part of the
    optimizer, see :func:`build_gradient_clipper`.

    Args:
        model: not yet wrapped for DDP.

    Raises:
        ValueError: an unknown optimizer, or a factor out of its range.
    """
    check_optimizer(cfg)
    return _optimizer(cfg, _groups_of_parts(cfg, model) if has_own_settings(cfg) else _groups_of_all(cfg, model))


def _optimizer(cfg: CfgNode, groups: list[dict]) -> torch.optim.Optimizer:
    lr = cfg.SOLVER.BASE_LR
    if (name := cfg.SOLVER.MTL.OPTIMIZER.upper()) == "SGD":
        return torch.optim.SGD(groups, lr=lr, momentum=cfg.SOLVER.MOMENTUM, nesterov=cfg.SOLVER.NESTEROV)
    # One kernel for all parameters: on a CPU the loop over them would cost a tenth of the step.
    return _OPTIMIZERS[name](groups, lr=lr, fused=True)


def check_optimizer(cfg: CfgNode) -> None:
    """Raise ValueError for what :func:`build_optimizer` would not build."""
    name = cfg.SOLVER.MTL.OPTIMIZER
    if name.upper() not in _OPTIMIZERS:
        raise ValueError(f"SOLVER.MTL.OPTIMIZER is {name!r}; expected one of {sorted(_OPTIMIZERS)}.")
    check_parts(cfg)


def check_rates(cfg: CfgNode) -> None:
    """Raise ValueError for what torch's optimizer and Detectron2's schedule refuse, tried with one parameter."""
    try:
        build_shared_scheduler(cfg, _optimizer(cfg, [{"params": [nn.Parameter(torch.zeros(1))]}]))
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"SOLVER: {error}") from error


def _groups_of_all(cfg: CfgNode, model: nn.Module) -> list[dict]:
    groups = _default_groups(cfg, model)
    balancer = getattr(model, BALANCER, None)
    learned = [p for p in balancer.parameters() if p.requires_grad] if balancer is not None else []
    own = [{"params": learned, "lr": cfg.SOLVER.BASE_LR, "weight_decay": 0.0}] if learned else []
    return _without(groups, learned) + own


def _groups_of_parts(cfg: CfgNode, model: nn.Module) -> list[dict]:
    groups: list[dict] = []
    taken: list[nn.Parameter] = []
    for part, modules in find_parts(model).items():  # a module of two tasks is the first one's
        own = _without(_default_groups(cfg, nn.ModuleList(modules), part), taken)
        if part == BACKBONE:
            decay = part_settings(cfg, part).LAYER_DECAY
            own = _split_by_layer(own, {p: f for module in modules for p, f in layer_factors(module, decay).items()})
        groups += [{**group, "part": part} for group in own]
        taken += parameters_of(modules)
    return groups + _without(_default_groups(cfg, model), taken)


def _default_groups(cfg: CfgNode, model: nn.Module, part: str | None = None) -> list[dict]:
    """Detectron2's groups, with the learning rate and weight decay of a part, or the run's."""
    solver = cfg.SOLVER
    lr, weight_decay = solver.BASE_LR, solver.WEIGHT_DECAY
    if part is not None:
        settings = part_settings(cfg, part)
        lr *= settings.LR_FACTOR
        weight_decay = weight_decay if settings.WEIGHT_DECAY is None else settings.WEIGHT_DECAY
    if part == BALANCER:  # no difference between its scales, shifts and others
        own = settings.WEIGHT_DECAY or 0.0
        return get_default_optimizer_params(model, base_lr=lr, weight_decay=own, weight_decay_norm=own)
    return get_default_optimizer_params(
        model,
        base_lr=lr,
        weight_decay=weight_decay,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )


def _without(groups: list[dict], parameters: list[nn.Parameter]) -> list[dict]:
    removed = set(parameters)
    rest = [{**group, "params": [p for p in group["params"] if p not in removed]} for group in groups]
    return [group for group in rest if group["params"]]


def _split_by_layer(groups: list[dict], factors: dict[nn.Parameter, float]) -> list[dict]:
    """Groups of equal learning rate again, each parameter's being that of its group times its factor."""
    return reduce_param_groups(
        [{**group, "params": [p], "lr": group["lr"] * factors.get(p, 1.0)} for group in groups for p in group["params"]]
    )


def build_gradient_clipper(cfg: CfgNode, model: nn.Module | None = None) -> GradientClipper | None:
    """Return the clipping of cfg.SOLVER.CLIP_GRADIENTS, or None where it is off.

    CLIP_TYPE "value" bounds every element and "norm" the norm of every parameter, as in Detectron2;
    "full_model" bounds the norm of all gradients together (which couples the tasks). Parameters without a
    gradient are left out. Each network of :class:`SeparateTaskNetworks` is clipped for itself.

    Args:
        model: the one that is trained; None for one network.
    """
    options = cfg.SOLVER.CLIP_GRADIENTS
    if not options.ENABLED:
        return None
    clip = gradient_clipper(options.CLIP_TYPE, options.CLIP_VALUE, options.NORM_TYPE)
    return clip_each_network(clip, model)


def clip_each_network(clip: GradientClipper, model: nn.Module | None) -> GradientClipper:
    """Clip each network of :class:`SeparateTaskNetworks` for itself; ``clip`` itself for any other model."""
    if not isinstance(model, SeparateTaskNetworks):
        return clip
    owner = {id(p): task for task, network in model.networks.items() for p in network.parameters()}

    def clip_networks(parameters: Iterable[nn.Parameter]) -> None:
        by_task: dict[str, list[nn.Parameter]] = {}
        for p in parameters:
            by_task.setdefault(owner[id(p)], []).append(p)
        for of_network in by_task.values():
            clip(of_network)

    return clip_networks


def gradient_clipper(clip_type: str, clip_value: float, norm_type: float = 2.0) -> GradientClipper:
    """See :func:`build_gradient_clipper`; ``clip_value`` is in the units of the (unscaled) gradient."""

    def clip_value_of_each_element(parameters: Iterable[nn.Parameter]) -> None:
        clip_grad_value_(_with_gradient(parameters), clip_value)

    def clip_norm_of_each_parameter(parameters: Iterable[nn.Parameter]) -> None:
        for p in _with_gradient(parameters):
            clip_grad_norm_(p, clip_value, norm_type)

    def clip_norm_of_the_model(parameters: Iterable[nn.Parameter]) -> None:
        clip_grad_norm_(_with_gradient(parameters), clip_value, norm_type)

    clippers = {
        "value": clip_value_of_each_element,
        "norm": clip_norm_of_each_parameter,
        "full_model": clip_norm_of_the_model,
    }
    if clip_type not in clippers:
        raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip_type!r}; expected one of {sorted(clippers)}.")
    return clippers[clip_type]


def _with_gradient(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.grad is not None]
