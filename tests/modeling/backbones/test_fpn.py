"""The FPN with exactly the levels asked for, and with the maps below it."""

import pytest
import torch
from detectron2.modeling import build_backbone

from mtl_d2.engine import setup_cfg
from mtl_d2.testing import tiny_cfg


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


def test_maps_of_the_resnet_come_beside_the_levels_and_its_weights_are_detectron2s() -> None:
    cfg = tiny_cfg(**{"MODEL.RESNETS.OUT_FEATURES": ["stem", "res2", "res3", "res4", "res5"]})
    reference = build_backbone(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_with_maps_backbone"
    cfg.MODEL.MTL.BACKBONE.EXTRA_FEATURES = ["stem", "res4"]
    backbone = build_backbone(cfg)
    backbone.load_state_dict(reference.state_dict())
    image = torch.rand(1, 3, 64, 128)
    found, expected = backbone.eval()(image), reference.eval()(image)
    assert list(found) == ["stem", "res4", "p2", "p3", "p4", "p5", "p6"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for name, shape in backbone.output_shape().items():
        assert found[name].shape[1:] == (shape.channels, 64 // shape.stride, 128 // shape.stride)


def test_images_are_padded_for_the_coarsest_map() -> None:
    names = ["res2", "res3"]
    keys = {"MODEL.BACKBONE.NAME": "build_resnet_fpn_exact_levels_backbone", "MODEL.FPN.IN_FEATURES": names}
    backbone = build_backbone(tiny_cfg(**keys, **{"MODEL.MTL.BACKBONE.EXTRA_FEATURES": ["res5"]}))
    assert backbone.size_divisibility == 32
    assert build_backbone(tiny_cfg(**keys)).size_divisibility == 8


def test_a_map_that_is_not_there_is_told() -> None:
    cfg = tiny_cfg(
        **{
            "MODEL.BACKBONE.NAME": "build_resnet_fpn_with_maps_backbone",
            "MODEL.MTL.BACKBONE.EXTRA_FEATURES": ["stem", "res2"],
        }
    )
    with pytest.raises(
        ValueError, match=r"EXTRA_FEATURES asks for \['stem'\]: .* gives \['res2', 'res3', 'res4', 'res5'"
    ):
        build_backbone(cfg)
