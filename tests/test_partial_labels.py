"""Removing labels of a task, from any images, leaves the other tasks' losses and gradients as they are, to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from mtl_d2.engine.launch import create_ddp, launch
from mtl_d2.engine.trainer import seed_step
from mtl_d2.testing import ALL_TASKS, random_batched_inputs, tiny_cfg

IMAGES = 4
TASKS = (*ALL_TASKS, "classification")
REMOVABLE = (*TASKS, "masks")  # masks: boxes stay
OUTPUT_KEYS = {"instance": "instances", "sem_seg": "sem_seg", "edge": "edge", "classification": "image_labels"}
LOSSES = {
    "instance": ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"),
    "masks": ("loss_mask",),
    "sem_seg": ("loss_sem_seg",),
    "edge": ("loss_edge",),
    "classification": ("loss_classification",),
}
Inputs = list[dict[str, Any]]
Step = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]


def without(inputs: Inputs, label: str, images: list[int]) -> Inputs:
    result = [dict(x) for x in inputs]
    for i in images:
        if label == "masks":
            result[i]["instances"] = result[i]["instances"][:]  # a copy: the other batch keeps its masks
            result[i]["instances"].remove("gt_masks")
        else:
            del result[i][OUTPUT_KEYS[label]]
    return result


def step(model: torch.nn.Module, inputs: Inputs, left_out: tuple[str, ...], rank: int = 0) -> Step:
    """The losses, and the gradients of those that are not left out (which stay in the graph, as DDP wants it)."""
    model.zero_grad()
    seed_step(3, rank, 0)
    with EventStorage():
        losses = model(inputs)
    sum(loss * float(name not in left_out) for name, loss in losses.items()).backward()
    kept = {name: loss.detach() for name, loss in losses.items() if name not in left_out}
    return kept, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def differences(found: Step, expected: Step) -> list[str]:
    return [
        name
        for mine, reference in zip(found, expected, strict=True)
        for name in reference
        if not torch.equal(mine[name], reference[name])
    ]


def make_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_cfg(TASKS))


def any_images(seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return np.flatnonzero(rng.random(IMAGES) < 0.5).tolist() or [int(rng.integers(IMAGES))]


@pytest.mark.parametrize("label", REMOVABLE)
@pytest.mark.parametrize("images", [any_images(seed) for seed in range(3)] + [list(range(IMAGES))], ids=str)
def test_in_one_process(label: str, images: list[int]) -> None:
    model, full = make_model(), random_batched_inputs(IMAGES, tasks=TASKS)
    expected = step(model, full, LOSSES[label])
    found = step(model, without(full, label, images), LOSSES[label])
    assert differences(found, expected) == []
    assert any(gradient.any() for gradient in found[1].values())


def test_the_removed_labels_did_matter() -> None:
    model, full = make_model(), random_batched_inputs(IMAGES, tasks=TASKS)
    expected = step(model, full, ())
    for label in REMOVABLE:
        found = step(model, without(full, label, [0, 2]), ())
        changed = [name for name in differences(found, expected) if name.startswith("loss_")]
        assert changed and set(changed) <= set(LOSSES[label]), label


def _two_ranks(path: str) -> None:
    rank = comm.get_rank()
    model = create_ddp(make_model())
    full = random_batched_inputs(IMAGES, tasks=TASKS, seed=rank)
    faults = {}
    for label in REMOVABLE:
        expected = step(model, full, LOSSES[label], rank)
        # Of all images of rank 1, and of some on both.
        for case, images in (("rank", list(range(IMAGES)) if rank else []), ("some", any_images(rank))):
            found = step(model, without(full, label, images), LOSSES[label], rank)
            faults[label, case] = differences(found, expected)
    # A rank without masks: the loss of the masks is that of the ranks that have some.
    inputs = without(full, "masks", list(range(IMAGES)) if rank else [])
    losses, gradients = step(model, inputs, tuple(name for name in LOSSES["instance"] if name != "loss_mask"), rank)
    torch.save({"faults": faults, "loss_mask": losses["loss_mask"], "gradients": gradients}, f"{path}/{rank}.pth")


def test_in_two_processes(tmp_path: Path) -> None:
    launch(_two_ranks, 2, args=(str(tmp_path),), device="cpu")
    ranks = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1)]
    for rank in ranks:
        assert {case: names for case, names in rank["faults"].items() if names} == {}

    model = make_model()
    others = tuple(name for names in LOSSES.values() for name in names if name != "loss_mask")
    loss, _ = step(model, random_batched_inputs(IMAGES, tasks=TASKS), others)
    assert ranks[1]["loss_mask"] == 0
    assert ranks[0]["loss_mask"] == 2 * loss["loss_mask"]  # the mean over the ranks is that of rank 0
    expected = mask_head_gradients(model)
    assert expected
    for name, gradient in expected.items():
        torch.testing.assert_close(ranks[0]["gradients"][f"module.{name}"], gradient, rtol=1e-6, atol=1e-8)


def mask_head_gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    parameters = model.get_submodule("roi_heads.mask_head").named_parameters(prefix="roi_heads.mask_head")
    return {name: p.grad for name, p in parameters if p.grad is not None}
