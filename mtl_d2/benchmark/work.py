"""The training step and the inference of networks, timed beside each other."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import nn

from mtl_d2.engine.optimizer import build_optimizer

from .networks import answer, losses
from .report import Comparison, compare
from .settings import Settings
from .timing import Run, count_flops, measure

MIB = 2**20


def compare_networks(
    networks: Mapping[str, nn.Module],
    cfgs: Mapping[str, CfgNode],
    inputs: list[dict[str, Any]],
    settings: Settings,
    goals: tuple[float | None, float | None],
) -> list[Comparison]:
    """Training step and inference of the first network over the sum of the others'.

    Args:
        networks, cfgs: by name.
        goals: of the training step and of inference.
    """
    where = f"{settings.size[0]}x{settings.size[1]}, batch {len(inputs)}"
    comparisons = []
    for title, goal in zip(("training step", "inference"), goals, strict=True):
        optimizers = {name: build_optimizer(cfgs[name], network) for name, network in networks.items()}
        runs = {}
        for name, network in networks.items():
            if title == "inference":
                network.eval()
                runs[name] = inference(network, inputs, settings)
            else:
                network.train()
                runs[name] = training_step(network, optimizers[name], inputs, settings)
        comparisons.append(
            compare(
                f"{title}, {where}",
                measure(runs, rounds=settings.rounds, device=settings.device, title=title),
                images=len(inputs),
                flops={name: count_flops(run) for name, run in runs.items()},
                goal=goal,
                peak_memory_mib=_peak_memory(runs, networks, optimizers) if settings.on_gpu else None,
            )
        )
    return comparisons


def inference(network: nn.Module, inputs: list[dict[str, Any]], settings: Settings) -> Run:
    """What is timed as inference, postprocessing to the images' resolution included."""

    def run() -> object:
        with _autocast(settings):
            return answer(network, inputs)

    return run


def training_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, inputs: list[dict[str, Any]], settings: Settings
) -> Run:
    """What is timed as a training step: forward, backward, and the optimizer's step."""

    def run() -> None:
        with _autocast(settings):
            total = torch.stack(list(losses(network, inputs).values())).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def _autocast(settings: Settings) -> AbstractContextManager:
    return torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=settings.bf16)


def _peak_memory(
    runs: Mapping[str, Callable[[], object]],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> dict[str, float]:
    """MiB of GPU memory that each would need alone: its weights and optimizer state, and what a run adds to that."""
    peaks = {}
    for name, run in runs.items():
        networks[name].zero_grad()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        tensors = [*networks[name].parameters(), *networks[name].buffers()]
        tensors += [x for state in optimizers[name].state.values() for x in state.values() if torch.is_tensor(x)]
        resident = sum(x.numel() * x.element_size() for x in tensors)
        peaks[name] = (torch.cuda.max_memory_allocated() - before + resident) / MIB
    return peaks


def describe(settings: Settings, cfg: CfgNode, network: nn.Module, inputs: list[dict[str, Any]]) -> dict[str, str]:
    """What the figures hold for: sizes, precision, and the work that the RoI heads get."""
    network.eval()
    detections = [len(found["instances"]) for found in answer(network, inputs)]
    network.train()
    torch.manual_seed(settings.seed)
    with EventStorage(start_iter=1) as storage, torch.no_grad():
        network(inputs)
    foreground, background = (storage.latest()[f"roi_head/num_{kind}_samples"][0] for kind in ("fg", "bg"))
    precision = "bfloat16 autocast" if settings.bf16 else "float32"
    return {
        "network": "quick, of no meaning" if settings.quick else settings.config_file,
        "overrides": " ".join(settings.opts) or "none",
        "images": f"{settings.size[0]}x{settings.size[1]}, batches of {', '.join(map(str, settings.batch_sizes))}",
        "device": f"{settings.device}, {precision}, {torch.get_num_threads()} threads",
        "proposals per image": f"{cfg.MODEL.RPN.POST_NMS_TOPK_TEST} at most",
        "detections per image": f"{', '.join(map(str, detections))}, by score threshold and TEST.DETECTIONS_PER_IMAGE",
        "training regions per image": f"{foreground + background:.0f}, {foreground:.0f} of them foreground",
    }
