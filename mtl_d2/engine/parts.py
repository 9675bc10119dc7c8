"""The parts of a network that the optimizer and the schedule tell apart: the backbone, each task, the balancer."""

from collections.abc import Iterable

from torch import nn

from ..separate_networks import SeparateTaskNetworks

BACKBONE, BALANCER = "backbone", "balancer"


def find_parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Return ``{part: its modules}``; a task's are those of its branch.

    Args:
        model: not wrapped for DDP, such as ``MultiTaskFPN``; what it lacks of ``backbone``, ``branches`` and
            ``balancer`` is no part. The backbone of ``SeparateTaskNetworks`` is that of all of them.
    """
    tasks = {task: list(branch.owned_modules.values()) for task, branch in getattr(model, "branches", {}).items()}
    if isinstance(model, SeparateTaskNetworks):  # what a task depends on is its network's own
        networks = {task: model.network_of(task).branches.values() for task in model.networks}
        tasks = {task: [m for b in branches for m in b.owned_modules.values()] for task, branches in networks.items()}
    others = {name: [module] for name in (BACKBONE, BALANCER) if (module := getattr(model, name, None)) is not None}
    if isinstance(model, SeparateTaskNetworks):
        others[BACKBONE] = [model.network_of(task).backbone for task in model.networks]
    return tasks | others


def own_trunk(model: nn.Module, task: str) -> list[nn.Parameter]:
    """The parameters of the backbone that a task has for itself; none where tasks share one."""
    return list(model.network_of(task).backbone.parameters()) if isinstance(model, SeparateTaskNetworks) else []


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
