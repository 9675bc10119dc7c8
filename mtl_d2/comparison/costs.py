"""What networks cost to keep and to run, measured beside each other on images that they are scored on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.analysis import FlopCountAnalysis
from torch import nn

from ..benchmark.networks import answer, num_parameters
from ..benchmark.timing import Ratio, measure, ratio_of_medians
from ..data.build import build_multitask_test_loader
from ..engine import load_weights

IMAGES = 4


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one network, one image at a time, postprocessing included.

    Attributes:
        flops: multiply-adds that fvcore counts in the inference of an image, mean over the images.
        uncounted: ``{operator: calls per image}`` of those that it knows no count for.
        milliseconds: of inference per image, median over the rounds.
        time_ratio: to the sum of the references in the same rounds; None of a reference.
    """

    parameters: int
    flops: float
    uncounted: dict[str, float] = field(default_factory=dict)
    milliseconds: float
    time_ratio: Ratio | None = None


def measure_costs(
    networks: Mapping[str, tuple[CfgNode, Path]], references: Sequence[str], *, rounds: int, images: int = IMAGES
) -> dict[str, Cost]:
    """Measure trained networks.

    Args:
        networks: ``{name: (config, weights)}``.
        references: names of those whose sum the others are held against.
        rounds: of the interleaved timing.
        images: that are taken from the first of DATASETS.TEST.
    """
    models = {name: _trained(cfg, weights) for name, (cfg, weights) in networks.items()}
    inputs = {name: _first_inputs(cfg, images) for name, (cfg, _) in networks.items()}
    device = next(iter(models.values())).device
    runs = {name: _inference(model, inputs[name]) for name, model in models.items()}
    seconds = measure(runs, rounds=rounds, device=device, title="inference")  # type: ignore[arg-type]
    summed = [sum(values) for values in zip(*(seconds[name] for name in references), strict=True)]
    costs = {}
    for name, model in models.items():
        flops, uncounted = count_flops(model, inputs[name])
        costs[name] = Cost(
            parameters=num_parameters(model),
            flops=flops,
            uncounted=uncounted,
            milliseconds=1000 * median(seconds[name]) / len(inputs[name]),
            time_ratio=None if name in references else ratio_of_medians(seconds[name], summed),
        )
    return costs


def count_flops(model: nn.Module, inputs: Sequence[dict[str, Any]]) -> tuple[float, dict[str, float]]:
    """Multiply-adds per image, and the operators that fvcore has no count for, with their calls per image."""
    total, unsupported = 0.0, Counter[str]()
    with torch.no_grad():
        for image in inputs:
            analysis = FlopCountAnalysis(model, [image])
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            total += analysis.total()
            unsupported.update(analysis.unsupported_ops())
    return total / len(inputs), {name: count / len(inputs) for name, count in sorted(unsupported.items())}


def _trained(cfg: CfgNode, weights: Path) -> nn.Module:
    model = build_model(cfg)
    load_weights(model, str(weights))
    return model.eval()


def _first_inputs(cfg: CfgNode, count: int) -> list[dict[str, Any]]:
    loader = build_multitask_test_loader(cfg, cfg.DATASETS.TEST[0])
    return [inputs[0] for inputs, _ in zip(loader, range(count), strict=False)]


def _inference(model: nn.Module, inputs: Sequence[dict[str, Any]]) -> Any:
    return lambda: [answer(model, [image]) for image in inputs]
