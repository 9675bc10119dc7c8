"""Decoders in the joint network: answers at the image's size, partial labels, beside the instance head."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from mtl_d2.engine import setup_cfg
from mtl_d2.testing import random_batched_inputs, tiny_cfg

CONFIGS = Path(__file__).parents[3] / "configs" / "decoders"
VGG = {
    "MODEL.BACKBONE.NAME": "build_vgg_fpn_backbone",
    "MODEL.FPN.IN_FEATURES": ["s4", "s8"],
    "MODEL.MTL.VGG.DEPTHS": [1, 1, 1],
    "MODEL.MTL.VGG.WIDTHS": [32, 32, 32],
    "MODEL.MTL.VGG.NORM": "GN",
    "MODEL.SEM_SEG_HEAD.NAME": "DecoderSemSegHead",
    "MODEL.MTL.EDGE_HEAD.IN_FEATURES": ["p2", "p3"],
}
SEGNET = ["s8", "pool3_indices", "pool2_indices", "pool1_indices"]


@pytest.mark.parametrize("leaf", ["fcn", "segnet", "unet_edge", "pspnet", "deeplabv3plus"])
def test_answers_have_the_images_size_whatever_it_is(leaf):
    cfg = setup_cfg(str(CONFIGS / f"{leaf}.yaml"), ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()"])
    model = build_model(cfg).eval()
    inputs = random_batched_inputs(2, sizes=((61, 83), (70, 65)))
    inputs[1].update(height=101, width=77)
    for answer, size in zip(model(inputs), ((61, 83), (101, 77)), strict=True):
        found = answer["edge"] if leaf == "unet_edge" else answer["sem_seg"]
        assert found.shape[-2:] == size and found.isfinite().all()


def _network(decoder: str, levels: list[str], tasks: list[str]) -> torch.nn.Module:
    keys = {
        "MODEL.MTL.SEM_SEG_HEAD.DECODER": decoder,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": levels,
        "MODEL.MTL.BACKBONE.EXTRA_FEATURES": levels,
        "MODEL.MTL.VGG.OUT_FEATURES": list(dict.fromkeys(["s4", "s8", *levels])),
    }
    torch.manual_seed(0)
    return build_model(tiny_cfg(tasks, **VGG, **keys))


def _head_gradients(model, inputs):
    model.zero_grad()
    losses = model(inputs)
    losses["loss_sem_seg"].backward()
    return losses["loss_sem_seg"], [p.grad for p in model.sem_seg_head.decoder.predictor.parameters()]


def test_an_image_without_the_label_takes_no_part_and_the_places_of_maxima_follow_the_images():
    model = _network("SegNetDecoder", SEGNET, ["sem_seg", "edge"])
    for norm in model.sem_seg_head.modules():  # of one image or two: statistics of their own
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eval()
    sizes = ((64, 64),)
    both = random_batched_inputs(2, sizes=sizes, tasks=(("edge",), ("sem_seg", "edge")))
    loss, gradients = _head_gradients(model, both)
    alone, expected = _head_gradients(model, both[1:])
    torch.testing.assert_close(loss, alone)
    for found, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-6)


def test_without_any_label_every_loss_is_there_and_zero():
    model = _network("PSPNetDecoder", ["s4", "s8"], ["sem_seg", "edge"])
    losses = model(random_batched_inputs(1, sizes=((64, 64),), tasks=("edge",)))
    assert losses["loss_sem_seg"] == losses["loss_sem_seg_auxiliary"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
