"""The backbone of 3x3 convolutions: torchvision's numbers, strides, what is built and what is frozen."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import FPN, build_backbone
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from mtl_d2.modeling.backbones import VGG
from mtl_d2.testing import tiny_cfg

NARROW = {"depths": (1, 2, 1), "widths": (4, 6, 8)}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_it_has_the_parameters_of_torchvisions_vgg16_bn_but_the_biases_that_norms_undo():
    with torch.device("meta"):
        reference, found = make_layers(cfgs["D"], batch_norm=True), VGG()
    biases = sum(m.bias.numel() for m in reference.modules() if isinstance(m, nn.Conv2d))
    assert _count(reference) == 14_723_136
    assert _count(found) == _count(reference) - biases


def test_with_its_weights_it_gives_what_torchvision_gives():
    torch.manual_seed(0)
    reference = make_layers([4, "M", 6, 6, "M", 8, "M"], batch_norm=True)
    found = VGG(**NARROW, out_features=("s8",))
    values = [value for name, value in reference.state_dict().items() if not _is_conv_bias(reference, name)]
    found.load_state_dict(dict(zip(found.state_dict(), values, strict=True)))
    x = torch.randn(2, 3, 32, 24)
    torch.testing.assert_close(found(x)["s8"], reference(x))


def _is_conv_bias(layers: nn.Sequential, name: str) -> bool:
    index, kind = name.split(".")
    return kind == "bias" and isinstance(layers[int(index)], nn.Conv2d)


def test_every_output_has_the_shape_that_it_tells():
    names = ("s1", "s2", "s4", "s8", "pool1_indices", "pool2_indices", "pool3_indices")
    backbone = VGG(**NARROW, out_features=names)
    maps = backbone(torch.randn(2, 3, 32, 48))
    assert list(maps) == list(names) == list(backbone.output_shape())
    for name, shape in backbone.output_shape().items():
        assert maps[name].shape == (2, shape.channels, 32 // shape.stride, 48 // shape.stride)
        assert (maps[name].dtype == torch.uint8) == name.endswith("indices")
    assert backbone.size_divisibility == 8


@pytest.mark.parametrize(
    ("names", "stages"), [(["s1"], 1), (["s2", "s1"], 2), (["pool1_indices"], 1), (["s4"], 3), (["s8"], 3)]
)
def test_what_no_output_needs_is_not_built(names, stages):
    backbone = VGG(**NARROW, out_features=names)
    assert [name for name, _ in backbone.named_children()] == [f"stage{i + 1}" for i in range(stages)]
    assert list(backbone(torch.randn(1, 3, 16, 16))) == names


def test_a_stage_sees_the_maxima_whether_or_not_their_places_are_asked_for():
    torch.manual_seed(0)
    plain = VGG(**NARROW, out_features=("s8",)).eval()
    with_places = VGG(**NARROW, out_features=("s8", "pool1_indices", "pool3_indices")).eval()
    with_places.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 17, 30)
    assert torch.equal(plain(x)["s8"], with_places(x)["s8"])


def test_frozen_stages_have_fixed_norms_and_no_gradient():
    backbone = VGG(**NARROW, out_features=("s8",), freeze_at=2)
    assert [p.requires_grad for p in backbone.stage2.parameters()] == [False] * 2
    assert isinstance(backbone.stage2.convs[0].norm, FrozenBatchNorm2d)
    assert all(p.requires_grad for p in backbone.stage3.parameters())


@pytest.mark.parametrize(("norm", "kind"), [("GN", nn.GroupNorm), ("FrozenBN", FrozenBatchNorm2d), ("", type(None))])
def test_the_config_gives_widths_and_norm(norm, kind):
    cfg = tiny_cfg(
        **{
            "MODEL.BACKBONE.NAME": "build_vgg_backbone",
            "MODEL.MTL.VGG.DEPTHS": [1, 1],
            "MODEL.MTL.VGG.WIDTHS": [32, 64],
            "MODEL.MTL.VGG.OUT_FEATURES": ["s2", "s4"],
            "MODEL.MTL.VGG.NORM": norm,
        }
    )
    backbone = build_backbone(cfg)
    assert {name: (s.channels, s.stride) for name, s in backbone.output_shape().items()} == {
        "s2": (64, 2),
        "s4": (64, 4),
    }
    assert isinstance(backbone.stage1.convs[0].norm, kind)
    assert (backbone.stage1.convs[0].bias is None) == bool(norm)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_features": ["s16"]}, r"OUT_FEATURES is \['s16'\]: 3 stages give \['s1', 's2', 's4', 's8', 'pool1_"),
        ({"out_features": []}, r"OUT_FEATURES is \[\]"),
        ({"widths": (4, 6)}, "has 3 DEPTHS and 2 WIDTHS"),
    ],
)
def test_what_does_not_fit_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        VGG(**{**NARROW, "out_features": ["s8"], **options})


def test_an_fpn_on_it_has_the_names_of_detectron2s_and_gives_the_maps_below_in_the_same_pass():
    cfg = tiny_cfg(
        **{
            "MODEL.BACKBONE.NAME": "build_vgg_fpn_backbone",
            "MODEL.MTL.VGG.DEPTHS": [1] * 5,
            "MODEL.MTL.VGG.WIDTHS": [4] * 5,
            "MODEL.MTL.VGG.OUT_FEATURES": ["s1", "pool5_indices", "s4", "s8", "s16", "s32"],
            "MODEL.MTL.BACKBONE.EXTRA_FEATURES": ["s1", "pool5_indices", "s32"],
            "MODEL.FPN.IN_FEATURES": ["s4", "s8", "s16", "s32"],
        }
    )
    ours = build_backbone(cfg).eval()
    plain = FPN(ours.bottom_up, cfg.MODEL.FPN.IN_FEATURES, 32, top_block=ours.top_block).eval()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 64, 64)
    found, levels, below = ours(x), plain(x), ours.bottom_up(x)
    assert list(found) == ["s1", "pool5_indices", "s32", "p2", "p3", "p4", "p5", "p6"] == list(ours.output_shape())
    assert all(torch.equal(found[name], levels[name]) for name in levels)
    assert all(torch.equal(found[name], below[name]) for name in ("s1", "pool5_indices", "s32"))
    assert not ours.bottom_up._forward_hooks
