"""MultiTaskFPN with instances and semantics against Detectron2's PanopticFPN with the same weights.

Losses and answers, the panoptic map included, have to be equal; then training step, inference (with the panoptic
merge in both) and postprocessing alone are timed: pasting 100 masks, resizing and arg-maxing the semantic logits, and
merging, at 480x640.
"""

import argparse
from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from .equality import Check, relative_difference
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
from .report import Comparison, Findings, compare
from .settings import Settings, add_arguments, read_settings
from .timing import measure
from .work import compare_networks, describe

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "instances and semantics against Detectron2's PanopticFPN"
OURS, THEIRS = "MultiTaskFPN", "PanopticFPN"
TOLERANCE = 1e-6
TRAINING_GOAL, POSTPROCESSING_GOAL = 1.02, 0.40
# Untrained scores are low: all detections go into the panoptic map.
OVERRIDES = (
    *COMMON,
    *("MODEL.PANOPTIC_FPN.COMBINE.ENABLED", True, "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0),
    *("TEST.DETECTIONS_PER_IMAGE", 80, "MODEL.MTL.TASKS", ["instance", "sem_seg"]),
)


def run(args: argparse.Namespace) -> Findings:
    """Check equality, then compare training steps and inference at every batch size, and postprocessing."""
    settings = read_settings(args)
    cfg = settings.cfg(OVERRIDES)
    cfgs = {OURS: cfg, THEIRS: detectron2_cfg(cfg, "PanopticFPN")}
    batches = {size: random_inputs(cfg, settings, size) for size in settings.batch_sizes}
    inputs = batches[settings.batch_sizes[0]]
    ours = build_random(cfg, inputs, settings.seed)
    theirs = build_model(cfgs[THEIRS])
    copy_weights(ours, theirs)
    networks = {OURS: ours, THEIRS: theirs}
    set_score_threshold([ours, theirs], inputs)
    outputs = random_outputs(settings, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
    checks = check_equality(ours, theirs, inputs, settings.seed)
    checks.append(_check("postprocessing", postprocess_ours(ours, *outputs), postprocess_theirs(theirs, *outputs)))
    comparisons: list[Comparison] = []
    if all(check.equal for check in checks):
        goals = (None if settings.quick else TRAINING_GOAL, None)
        for batch in batches.values():
            comparisons += compare_networks(networks, cfgs, batch, settings, goals)
        comparisons.append(compare_postprocessing(ours, theirs, outputs, settings))
    return Findings(
        device=settings.device,
        rounds=settings.rounds,
        seed=settings.seed,
        setting={**describe(settings, cfg, ours, inputs), "panoptic merge": "on in both, of all detections"},
        checks=checks,
        comparisons=comparisons,
        parameters={name: num_parameters(network) for name, network in networks.items()},
    )


def check_equality(ours: nn.Module, theirs: nn.Module, inputs: list[dict[str, Any]], seed: int) -> list[Check]:
    """Answers and losses, in float32."""
    with exact_convolutions(), torch.no_grad():
        answers = [answer(network.eval(), inputs) for network in (ours, theirs)]
        found_losses = [losses(network.train(), inputs, seed) for network in (ours, theirs)]
    return [_check("answers", *answers), _check("losses", *found_losses)]


def _check(name: str, found: Any, expected: Any) -> Check:
    return Check(name=name, difference=relative_difference(found, expected), tolerance=TOLERANCE)


def compare_postprocessing(
    ours: nn.Module, theirs: nn.Module, outputs: tuple[Instances, Tensor], settings: Settings
) -> Comparison:
    """From raw outputs to the panoptic map of one image."""
    instances, logits = outputs
    runs = {
        OURS: lambda: postprocess_ours(ours, instances, logits),
        THEIRS: lambda: postprocess_theirs(theirs, instances, logits),
    }
    height, width = instances.image_size
    return compare(
        f"postprocessing, {height}x{width}, {len(instances)} detections",
        measure(runs, rounds=settings.rounds, device=settings.device, title="postprocessing"),
        images=1,
        goal=None if settings.quick else POSTPROCESSING_GOAL,
    )


@torch.no_grad()
def postprocess_ours(network: Any, instances: Instances, logits: Tensor) -> dict[str, Any]:
    """What MultiTaskFPN does with the raw outputs of its heads."""
    size = instances.image_size
    found = network.branches["instance"].postprocess(_copy(instances), size, *size)
    sem_seg = network.branches["sem_seg"].postprocess(logits, size, *size)
    return {"instances": found, "sem_seg": sem_seg, "panoptic_seg": network.panoptic(found, sem_seg)}


@torch.no_grad()
def postprocess_theirs(network: Any, instances: Instances, logits: Tensor) -> dict[str, Any]:
    """What PanopticFPN does with the raw outputs of its heads."""
    size = instances.image_size
    sem_seg = sem_seg_postprocess(logits, size, *size)
    found = detector_postprocess(_copy(instances), *size)
    panoptic = combine_semantic_and_instance_outputs(
        found,
        sem_seg.argmax(dim=0),
        network.combine_overlap_thresh,
        network.combine_stuff_area_thresh,
        network.combine_instances_score_thresh,
    )
    return {"instances": found, "sem_seg": sem_seg, "panoptic_seg": panoptic}


def _copy(instances: Instances) -> Instances:
    """A copy with boxes of its own: postprocessing scales and clips them in place."""
    fields = {**instances.get_fields(), "pred_boxes": instances.pred_boxes.clone()}
    return Instances(instances.image_size, **fields)


def random_outputs(settings: Settings, num_classes: int) -> tuple[Instances, Tensor]:
    """Raw outputs of the heads for one image: 100 detections with blobs for masks, and smooth semantic logits."""
    height, width, count = (48, 64, 10) if settings.quick else (480, 640, 100)
    generator = torch.Generator().manual_seed(settings.seed)
    # From a twentieth to half of the height, small ones more often, as in COCO.
    sides = height * 0.05 * 10 ** torch.rand(count, 2, generator=generator)
    corners = torch.rand(count, 2, generator=generator) * (torch.tensor([width, height]) - sides)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 28)] * 2, indexing="ij")
    blob = 1 - x**2 - y**2 + 0.2 * torch.randn(count, 1, 28, 28, generator=generator)
    instances = Instances(
        (height, width),
        pred_boxes=Boxes(torch.cat([corners, corners + sides], dim=1)),
        pred_masks=(4 * blob).sigmoid(),
        scores=torch.rand(count, generator=generator),
        pred_classes=torch.randint(0, 80, (count,), generator=generator),
    )
    logits = torch.randn(1, num_classes, height // 16, width // 16, generator=generator)
    logits = nn.functional.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)[0]
    return instances.to(settings.device), logits.to(settings.device)
