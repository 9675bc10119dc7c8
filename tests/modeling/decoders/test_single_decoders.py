"""What is particular to one decoder: hand-computed values, and equality with Detectron2's layers."""

import pytest
import torch
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.projects.deeplab import DeepLabV3PlusHead
from torch import nn
from torch.nn import functional as F

from mtl_d2.modeling.decoders.fcn import bilinear_upsampling
from mtl_d2.modeling.decoders.pyramid import PyramidPooling
from mtl_d2.modeling.decoders.resize import fit, upsample

from .cases import CLASSES, make_decoder, make_features, shapes_of


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _constant_scores(score: nn.Conv2d, value: float) -> None:
    nn.init.zeros_(score.weight)
    nn.init.constant_(score.bias, value)


def test_a_pixel_stays_where_it_is_whatever_the_sizes():
    """Of a ramp, upsampled by four and made to fit, all but the outermost cells still have the pixel's own place."""
    for cells, size in ((10, 37), (10, 40), (10, 43)):
        ramp = (torch.arange(cells) + 0.5).mul(4).expand(1, 1, cells, cells)
        found = upsample(ramp, 4, (size, size))
        assert found.shape == (1, 1, size, size)
        inside = slice(2, min(size, 38))
        torch.testing.assert_close(found[0, 0, 0, inside], torch.arange(size)[inside] + 0.5)
    assert fit(torch.arange(4.0).view(1, 1, 2, 2), (3, 1)).flatten().tolist() == [0, 2, 2]


def test_fpn_is_detectron2s():
    decoder = make_decoder("FPNDecoder")
    reference = SemSegFPNHead(
        shapes_of("s4", "s8", "s16"),
        num_classes=CLASSES,
        conv_dims=8,
        common_stride=4,
        norm="BN",
    )
    reference.load_state_dict(decoder.head.state_dict())
    assert torch.equal(decoder(make_features()), reference.layers(make_features()))


def test_deeplabv3plus_is_detectron2s():
    decoder = make_decoder("DeepLabV3PlusDecoder", dropout=0.0)
    reference = DeepLabV3PlusHead(
        shapes_of("s4", "s16"),
        project_channels=[48],
        aspp_dilations=[6, 12, 18],
        aspp_dropout=0.0,
        decoder_channels=[8, 8],
        common_stride=4,
        norm="BN",
        train_size=None,
        num_classes=CLASSES,
    )
    reference.load_state_dict({k.removeprefix("head."): v for k, v in decoder.state_dict().items()})
    assert torch.equal(decoder(make_features()), reference.layers(make_features()))
    assert _count(make_decoder("DeepLabV3PlusDecoder", separable=True)) < _count(decoder)


def test_the_learnt_upsampling_starts_as_bilinear_interpolation():
    x = torch.randn(2, 3, 5, 7)
    found = bilinear_upsampling(3)(x)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_fcn_adds_the_scores_of_its_strides():
    decoder = make_decoder("FCNDecoder").eval()
    _constant_scores(decoder.fc[-1], 4.0)
    _constant_scores(decoder.scores["s8"], 2.0)
    _constant_scores(decoder.scores["s4"], 1.0)
    scores = decoder(make_features())
    torch.testing.assert_close(scores[..., 4:-4, 4:-4], torch.full_like(scores, 7.0)[..., 4:-4, 4:-4])


@pytest.mark.parametrize(("levels", "stride"), [(["s16"], 16), (["s8", "s16"], 8), (["s4", "s8", "s16"], 4)])
def test_fcn_has_the_finest_stride_of_its_scores(levels, stride):
    decoder = make_decoder("FCNDecoder", *levels)
    assert decoder.stride == stride and len(decoder.scores) == len(levels) - 1


def test_segnet_reads_nothing_finer_than_the_coarsest_map_but_the_places_of_the_maxima():
    decoder, features = make_decoder("SegNetDecoder").eval(), dict(make_features())
    scores = decoder(features)
    changed = features | {name: torch.randn_like(features[name]) for name in ("s1", "s2", "s4", "s8")}
    assert torch.equal(decoder(changed), scores)
    assert not torch.equal(decoder(features | {"pool1_indices": (features["pool1_indices"] + 1) % 4}), scores)


def test_segnet_stops_where_the_indices_stop():
    decoder = make_decoder("SegNetDecoder", "s16", "pool4_indices", "pool3_indices")
    assert decoder.stride == 4 and decoder(make_features()).shape[-2:] == (16, 24)


def test_a_pixel_of_unets_finest_level_is_seen_within_two_pixels_alone():
    decoder, features = make_decoder("UNetDecoder").eval(), dict(make_features(1))
    scores = decoder(features)
    finest = features["s1"].clone()
    finest[0, :, 20, 30] += 5
    differs = (decoder(features | {"s1": finest}) != scores).any(1)[0]
    rows, columns = differs.nonzero().T
    assert rows.min() >= 18 and rows.max() <= 22 and columns.min() >= 28 and columns.max() <= 32
    assert differs[20, 30]


def test_unet_doubles_its_channels_from_fine_to_coarse():
    decoder = make_decoder("UNetDecoder", conv_dims=4)
    assert [decoder.fuse[name][-1].out_channels for name in ("s1", "s2", "s4", "s8")] == [4, 8, 16, 32]


def test_the_pyramid_of_a_constant_map_is_constant_and_its_coarsest_grid_the_mean():
    torch.manual_seed(0)
    pooling = PyramidPooling(8, 4, bins=[1, 2, 3], norm="BN").eval()
    constant = pooling.pyramid(torch.randn(2, 8, 1, 1).expand(2, 8, 7, 5))
    assert constant.shape == (2, 8 + 3 * 2, 7, 5)
    torch.testing.assert_close(constant, constant[..., :1, :1].expand_as(constant))
    x = torch.randn(1, 8, 6, 6)
    expected = pooling.grids[0][1](x.mean((2, 3), keepdim=True)).expand(-1, -1, 6, 6)
    torch.testing.assert_close(pooling.pyramid(x)[:, 8:10], expected)


def test_pspnets_auxiliary_scores_have_the_form_of_the_main_ones_and_go_with_their_weight():
    decoder, features = make_decoder("PSPNetDecoder"), make_features()
    assert decoder.auxiliary_weights == {"auxiliary": 0.4}
    assert decoder.auxiliary(features)["auxiliary"].shape == decoder(features).shape
    without = make_decoder("PSPNetDecoder", auxiliary_weight=0.0)
    assert without.auxiliary(features) == {} and without.auxiliary_weights == {}
    assert not any("auxiliary" in name for name, _ in without.named_parameters())


@pytest.mark.parametrize("times", [1, 2, 5])
def test_rspp_is_its_pooling_so_many_times_with_as_many_parameters(times):
    decoder, features = make_decoder("RSPPDecoder", times=times).eval(), make_features()
    x = decoder.reduce(features["s16"])
    for _ in range(times):
        x = decoder.pooling(x)
    assert torch.equal(decoder(features), decoder.predictor(x))
    assert _count(decoder) == _count(make_decoder("RSPPDecoder", times=1))


def test_rspp_passes_are_no_repetition_of_the_first():
    features = make_features()
    assert not torch.allclose(*(make_decoder("RSPPDecoder", times=r).eval()(features) for r in (1, 2)))
