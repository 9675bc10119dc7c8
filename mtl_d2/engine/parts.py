"""The parts of a network that the optimizer and the schedule tell apart: backbone, neck, each task, balancer."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from ..separate_networks import SeparateTaskNetworks

BACKBONE, NECK, BALANCER = "backbone", "neck", "balancer"


def find_parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Return ``{part: its modules}``; a task's are those of its branch, and what the neck has for it alone.

    Args:
        model: not wrapped for DDP, such as ``MultiTaskFPN``; what it lacks of ``backbone``, ``neck``, ``branches`` and
            ``balancer`` is no part. Backbone and neck of ``SeparateTaskNetworks`` are those of all of them.
    """
    networks = _networks(model)
    tasks = {task: list(branch.owned_modules.values()) for task, branch in getattr(model, "branches", {}).items()}
    if isinstance(model, SeparateTaskNetworks):  # what a task depends on is its network's own
        branches = {task: model.network_of(task).branches.values() for task in model.networks}
        tasks = {task: [m for b in of for m in b.owned_modules.values()] for task, of in branches.items()}
    for task, modules in tasks.items():
        modules += [network.neck.by_task[task] for network in networks if _has_for(network, task)]
    others = {BACKBONE: [network.backbone for network in networks], NECK: _of_necks(networks)}
    if (balancer := getattr(model, BALANCER, None)) is not None:
        others[BALANCER] = [balancer]
    return tasks | {name: modules for name, modules in others.items() if modules}


def _networks(model: Any) -> list[Any]:
    if isinstance(model, SeparateTaskNetworks):
        return [model.network_of(task) for task in model.networks]
    return [model] if hasattr(model, BACKBONE) else []


def _has_for(network: Any, task: str) -> bool:
    return hasattr(network, NECK) and task in network.neck.by_task


def _of_necks(networks: Iterable[Any]) -> list[nn.Module]:
    """What necks have for all tasks."""
    children = (child for network in networks if hasattr(network, NECK) for child in network.neck.named_children())
    return [module for name, module in children if name != "by_task"]


def own_trunk(model: nn.Module, task: str) -> list[nn.Parameter]:
    """The parameters of backbone and neck that a task has for itself; none where tasks share them."""
    if not isinstance(model, SeparateTaskNetworks):
        return []
    network = model.network_of(task)
    return [*network.backbone.parameters(), *network.neck.parameters()]


def parameters_of(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters of several modules, each once."""
    return list(dict.fromkeys(p for module in modules for p in module.parameters()))


def layer_factors(backbone: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Return the learning-rate factor of each parameter below the FPN.

    Of n stages, stage i (from 0, the stem) has ``decay ** (n - i)``, as in BEiT (Bao et al. 2022, BEiT: BERT
    Pre-Training of Image Transformers, appendix) and ViTDet (Li et al. 2022, Exploring Plain Vision Transformer
    Backbones for Object Detection, appendix): the last stage has ``decay``, what is above it 1.

    Args:
        backbone: its ``bottom_up`` (of an FPN; ``net`` in ViTDet), or itself, is made of stages: its children in
            their order, the entries of a ModuleList each for itself. Norms that stand alone are above all stages,
            parameters that stand alone (position embeddings) are with the first.
        decay: in (0, 1].
    """
    below = next((getattr(backbone, name) for name in ("bottom_up", "net") if hasattr(backbone, name)), backbone)
    stages = _stages(below)
    factors = dict.fromkeys(below.parameters(recurse=False), decay ** len(stages))
    for i, stage in enumerate(stages):
        factors |= dict.fromkeys(stage.parameters(), decay ** (len(stages) - i))
    return factors


def _stages(module: nn.Module) -> list[nn.Module]:
    children = (
        stage for child in module.children() for stage in (child if isinstance(child, nn.ModuleList) else [child])
    )
    # What has nothing but vectors is a norm, what has no parameters a pooling.
    return [child for child in children if any(p.dim() > 1 for p in child.parameters())]
