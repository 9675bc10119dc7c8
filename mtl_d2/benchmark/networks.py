"""Networks with random weights that do as much work as trained ones."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from mtl_d2.testing import random_batched_inputs

from .settings import Settings

CANDIDATES = 400  # scores above the threshold per image, as of a trained network at 0.05
INSTANCES = 8  # labelled per image; COCO has 7.3
# No update: every round then does the same work. Between the tasks nothing is weighed, so that losses can be compared.
# At this IoU untrained proposals give the mask head as many foreground regions (about 70 an image) as trained ones do.
COMMON = (
    *("MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.25]),
    *("SOLVER.BASE_LR", 0.0, "MODEL.WEIGHTS", "", "DATASETS.TRAIN", (), "DATASETS.TEST", ()),
    *("MODEL.MTL.BALANCER.WEIGHTS.instance", 1.0, "MODEL.MTL.BALANCER.WEIGHTS.sem_seg", 1.0),
    *("MODEL.MTL.BALANCER.WEIGHTS.edge", 1.0, "MODEL.MTL.LABEL_PATIENCE", 10**9),
)
# Detectron2's own modules for those that mtl_d2 extends.
DETECTRON2_PARTS = (
    *("MODEL.PROPOSAL_GENERATOR.NAME", "RPN", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    *("MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead"),
)


def detectron2_cfg(cfg: CfgNode, architecture: str) -> CfgNode:
    """The config with an architecture of Detectron2's, built of its own modules."""
    cfg = cfg.clone()
    cfg.merge_from_list([*DETECTRON2_PARTS, "MODEL.META_ARCHITECTURE", architecture])
    return cfg


def random_inputs(cfg: CfgNode, settings: Settings, batch_size: int) -> list[dict[str, Any]]:
    """Noise, labelled for all tasks, in the mapper's form."""
    return random_batched_inputs(
        batch_size,
        sizes=(settings.size,),
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        num_sem_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        num_instances=INSTANCES,
        seed=settings.seed,
    )


def build_random(cfg: CfgNode, inputs: Sequence[dict[str, Any]], seed: int) -> nn.Module:
    """A network with random weights whose activations have the size of a trained one's.

    A deep network without statistics in its frozen batch norms gives activations in the thousands, and then a handful
    of proposals. So those of the inputs are put in.
    """
    torch.manual_seed(seed)
    network = build_model(cfg).eval()
    norms = [module for module in network.modules() if isinstance(module, FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
    with torch.no_grad():
        network.extract_features(network.preprocess(list(inputs)))
    for hook in hooks:
        hook.remove()
    return network


def _take_statistics(norm: FrozenBatchNorm2d, args: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(args[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give the target all its weights from the source, by name.

    Raises:
        RuntimeError: the source lacks one, or one has another shape.
    """
    names = target.state_dict().keys()
    target.load_state_dict({name: value for name, value in source.state_dict().items() if name in names})


def set_score_threshold(networks: Sequence[Any], inputs: list[dict[str, Any]]) -> None:
    """Set one score threshold for all detectors, such that CANDIDATES scores per image of the first's pass.

    Args:
        networks: modules with Detectron2's `roi_heads`.
    """
    predictor = networks[0].roi_heads.box_predictor
    scores: list[Tensor] = []
    hook = predictor.register_forward_hook(lambda module, args, output: scores.append(output[0]))
    answer(networks[0], inputs)
    hook.remove()
    probs = scores[0].softmax(dim=1)[:, :-1].flatten()
    threshold = probs.topk(min(CANDIDATES * len(inputs), len(probs) - 1) + 1).values[-1].item()
    for network in networks:
        network.roi_heads.box_predictor.test_score_thresh = threshold


def losses(network: nn.Module, inputs: list[dict[str, Any]], seed: int | None = None) -> dict[str, Tensor]:
    """The losses of a network in training mode; with a seed, of a fixed random state.

    Iteration 1: the joint network logs in every twentieth alone, from 0.
    """
    if seed is not None:
        torch.manual_seed(seed)
    with EventStorage(start_iter=1):
        return network(inputs)


def answer(network: nn.Module, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of a network in evaluation mode."""
    with torch.no_grad():
        return network(inputs)


def exact_convolutions() -> AbstractContextManager:
    """On a GPU: one algorithm for one shape, and float32 where float32 is asked for."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def num_parameters(network: nn.Module) -> int:
    """Number of weights, frozen ones included."""
    return sum(p.numel() for p in network.parameters())
