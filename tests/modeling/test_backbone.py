"""The FPN with exactly the levels asked for."""

import pytest
import torch
from detectron2.modeling import build_backbone

from mtl_d2.engine import setup_cfg


@pytest.mark.parametrize("last", ["res3", "res4", "res5"])
def test_the_levels_are_those_asked_for_and_those_of_detectron2(last: str) -> None:
    names = ["res2", "res3", "res4", "res5"]
    names = names[: names.index(last) + 1]
    cfg = setup_cfg("configs/shapes/demo.yaml", ["MODEL.RESNETS.OUT_FEATURES", names, "MODEL.FPN.IN_FEATURES", names])
    ours = build_backbone(cfg).eval()
    assert list(ours.output_shape()) == [f"p{name[-1]}" for name in names]
    assert not any("res6" in name or "p6" in name for name, _ in ours.named_parameters())
    assert [hasattr(ours.bottom_up, name) for name in ("res4", "res5")] == ["res4" in names, "res5" in names]

    image = torch.rand(2, 3, 64, 96)
    features = ours(image)
    for name, shape in ours.output_shape().items():
        assert features[name].shape == (2, cfg.MODEL.FPN.OUT_CHANNELS, 64 // shape.stride, 96 // shape.stride)

    if last == "res5":
        cfg.defrost()
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        theirs = build_backbone(cfg).eval()
        theirs.load_state_dict(ours.state_dict())
        reference = theirs(image)
        assert set(reference) == {*features, "p6"}
        assert all(torch.equal(features[name], reference[name]) for name in features)
