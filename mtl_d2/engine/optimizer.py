"""The optimizer and the gradient clipping that a config asks for."""

from collections.abc import Callable, Iterable

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from ..separate_networks import SeparateTaskNetworks

GradientClipper = Callable[[Iterable[nn.Parameter]], None]

_BALANCER = "balancer."


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build cfg.SOLVER.MTL.OPTIMIZER ("SGD" or "ADAMW") with Detectron2's parameter groups.

    The learned state of a balancer (parameters under ``balancer.``) gets no weight decay: decay would pull
    the log variances towards equal weights. Clipping is not part of the optimizer, see
    :func:`build_gradient_clipper`.

    Args:
        model: not yet wrapped for DDP.
    """
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    balancer = [p for name, p in model.named_parameters() if name.startswith(_BALANCER) and p.requires_grad]
    groups = _move_to_own_group(groups, balancer, lr=solver.BASE_LR, weight_decay=0.0)
    name = solver.MTL.OPTIMIZER.upper()
    if name == "SGD":
        return torch.optim.SGD(groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV)
    if name == "ADAMW":
        # One kernel for all parameters: on a CPU the loop over them would cost a tenth of the step.
        return torch.optim.AdamW(groups, lr=solver.BASE_LR, fused=True)
    raise ValueError(f"SOLVER.MTL.OPTIMIZER is {solver.MTL.OPTIMIZER!r}; expected 'SGD' or 'ADAMW'.")


def _move_to_own_group(groups: list[dict], parameters: list[nn.Parameter], **options: float) -> list[dict]:
    if not parameters:
        return groups
    moved = {id(p) for p in parameters}
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in moved]} for group in groups]
    return [group for group in rest if group["params"]] + [{"params": parameters, **options}]


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
    return _clip_each_network(clip, model) if isinstance(model, SeparateTaskNetworks) else clip


def _clip_each_network(clip: GradientClipper, model: SeparateTaskNetworks) -> GradientClipper:
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
