"""One joint network (instances, semantics, edges) against the three single networks that it replaces.

The single networks are Detectron2's Mask R-CNN and SemanticSegmentor, and for edges, which Detectron2 has not,
MultiTaskFPN with that task alone. All carry the weights of the joint network: it must give their answers and their
losses, and its gradients must be the sums of theirs. Inference includes postprocessing to the images' resolution. The
panoptic merge, which only the joint network can do, is off.
"""

import argparse
from collections.abc import Mapping

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from .equality import Check, gradient_difference, relative_difference
from .networks import (
    COMMON,
    answer,
    build_random,
    copy_weights,
    detectron2_cfg,
    exact_convolutions,
    losses,
    num_parameters,
    random_inputs,
    set_score_threshold,
)
from .report import Comparison, Findings
from .settings import CPU_SIZE, GPU_SIZE, add_arguments, read_settings
from .work import compare_networks, describe

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "one joint network against three single ones"
JOINT, MASK_RCNN, SEM_SEG, EDGE = "joint", "Mask R-CNN", "SemanticSegmentor", "edge alone"
TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-3
GOALS = {  # {(on a GPU, size): (training step, inference)}
    (False, CPU_SIZE): (0.75, 0.78),
    (True, GPU_SIZE): (0.62, 0.65),
}
OVERRIDES = (*COMMON, "MODEL.PANOPTIC_FPN.COMBINE.ENABLED", False, "TEST.DETECTIONS_PER_IMAGE", 80)


def run(args: argparse.Namespace) -> Findings:
    """Check equality, then compare training steps and inference at every batch size."""
    settings = read_settings(args)
    cfg = settings.cfg(OVERRIDES)
    cfgs = network_cfgs(cfg)
    batches = {size: random_inputs(cfg, settings, size) for size in settings.batch_sizes}
    inputs = batches[settings.batch_sizes[0]]
    networks = {JOINT: build_random(cfg, inputs, settings.seed)}
    for name in (MASK_RCNN, SEM_SEG, EDGE):
        networks[name] = build_model(cfgs[name])
        copy_weights(networks[JOINT], networks[name])
    set_score_threshold([networks[JOINT], networks[MASK_RCNN]], inputs)
    checks = check_equality(networks, inputs, settings.seed)
    comparisons: list[Comparison] = []
    if all(check.equal for check in checks):
        goals = (None, None) if settings.quick else GOALS.get((settings.on_gpu, settings.size), (None, None))
        for batch in batches.values():
            comparisons += compare_networks(networks, cfgs, batch, settings, goals)
    parameters = {name: num_parameters(network) for name, network in networks.items()}
    parameters["sum of the three"] = sum(parameters[name] for name in (MASK_RCNN, SEM_SEG, EDGE))
    return Findings(
        device=settings.device,
        rounds=settings.rounds,
        seed=settings.seed,
        setting={**describe(settings, cfg, networks[JOINT], inputs), "panoptic merge": "off: only the joint has it"},
        checks=checks,
        comparisons=comparisons,
        parameters=parameters,
    )


def network_cfgs(cfg: CfgNode) -> dict[str, CfgNode]:
    """The configs of the joint network and of the three that it replaces."""
    edge = cfg.clone()
    edge.MODEL.MTL.TASKS = ["edge"]
    return {
        JOINT: cfg,
        MASK_RCNN: detectron2_cfg(cfg, "GeneralizedRCNN"),
        SEM_SEG: detectron2_cfg(cfg, "SemanticSegmentor"),
        EDGE: edge,
    }


def check_equality(networks: Mapping[str, nn.Module], inputs: list[dict], seed: int) -> list[Check]:
    """Answers, losses and gradients of the joint network against those of the others, in float32."""
    joint = networks[JOINT]
    singles = {name: network for name, network in networks.items() if name != JOINT}
    checks = []
    with exact_convolutions():
        for network in networks.values():
            network.eval()
        answers = answer(joint, inputs)
        for name, network in singles.items():
            expected = answer(network, inputs)
            found = [{key: a.get(key) for key in e} for a, e in zip(answers, expected, strict=True)]
            checks.append(_check(f"answers of {name}", relative_difference(found, expected)))
        found_losses = _backward(joint, inputs, seed)
        for name, network in singles.items():
            expected_losses = _backward(network, inputs, seed)
            same_losses = {key: found_losses.pop(key, None) for key in expected_losses}
            checks.append(_check(f"losses of {name}", relative_difference(same_losses, expected_losses)))
        checks.append(_check("losses beside theirs", float(len(found_losses)), 0.0))
        difference = gradient_difference(joint, list(singles.values()))
        checks.append(_check("gradients, and the sums of theirs", difference, GRADIENT_TOLERANCE))
    return checks


def _check(name: str, difference: float, tolerance: float = TOLERANCE) -> Check:
    return Check(name=name, difference=difference, tolerance=tolerance)


def _backward(network: nn.Module, inputs: list[dict], seed: int) -> dict[str, torch.Tensor]:
    network.train()
    network.zero_grad()
    found = losses(network, inputs, seed)
    torch.stack(list(found.values())).sum().backward()
    return {name: loss.detach() for name, loss in found.items()}
