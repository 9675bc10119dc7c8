"""Networks with a neck: test-time augmentation goes through it, and weights without it are refused."""

import pytest
import torch
from detectron2.modeling import build_model

from mtl_d2.engine.checkpoint import LoadReport
from mtl_d2.predictor.predictor import _check_heads
from mtl_d2.predictor.tta import TestTimeAugmentation
from mtl_d2.testing import random_batched_inputs, tiny_cfg


@pytest.mark.parametrize("name", ["squeeze_excitation", "hypercolumn"])
def test_the_views_are_answered_by_the_network_with_its_neck(name: str) -> None:
    cfg = tiny_cfg(("instance",), **{"MODEL.MTL.NECK.NAME": name, "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0})
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    with torch.no_grad():
        for p in model.neck.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    inputs = random_batched_inputs(2)
    detector = TestTimeAugmentation(cfg, model).detector.model
    with torch.no_grad():
        found = detector.inference(inputs)
    for ours, theirs in zip(model.inference(inputs), found, strict=True):
        for key in ("pred_boxes", "scores"):
            a, b = (getattr(x["instances"].get(key), "tensor", x["instances"].get(key)) for x in (ours, theirs))
            assert len(a) and torch.equal(a, b)


@pytest.mark.parametrize("architecture", ["MultiTaskFPN", "SeparateTaskNetworks"])
def test_a_neck_that_kept_its_random_values_is_no_network(architecture: str) -> None:
    options = {"MODEL.MTL.NECK.NAME": "hypernetwork", "MODEL.META_ARCHITECTURE": architecture}
    model = build_model(tiny_cfg(("sem_seg", "edge"), **options))
    below = "" if architecture == "MultiTaskFPN" else "networks.edge."

    def check(task: str, *missing: str) -> None:
        _check_heads(LoadReport("a.pth", 1, missing=[below + key for key in missing]), model, [task])

    check("edge", "neck.by_task.sem_seg.weight", "sem_seg_head.predictor.weight")
    for key in ("neck.convs.0.weight", "neck.by_task.edge.weight"):
        with pytest.raises(ValueError, match="a.pth has no weights that fit the task 'edge'"):
            check("edge", key)
