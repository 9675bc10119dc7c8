"""What holds for every decoder: sizes, gradients, memory formats, images on their own, faults."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec

from mtl_d2.modeling.decoders import DECODERS_REGISTRY

from .cases import CLASSES, LEVELS, make_decoder, make_features

every_decoder = pytest.mark.parametrize("name", LEVELS)


def test_every_registered_decoder_is_tested():
    assert {name for name, _ in DECODERS_REGISTRY} == set(LEVELS)


@every_decoder
def test_scores_have_the_stride_that_the_decoder_tells(name):
    decoder = make_decoder(name)
    scores = decoder(make_features())
    assert scores.shape == (2, CLASSES, 64 // decoder.stride, 96 // decoder.stride)
    expected = {"UNetDecoder": 1, "SegNetDecoder": 1, "FPNDecoder": 4, "FCNDecoder": 4, "DeepLabV3PlusDecoder": 4}
    assert decoder.stride == expected.get(name, 16)


@every_decoder
def test_sizes_that_were_rounded_down_are_taken(name):
    decoder = make_decoder(name)
    features = make_features(2, 61, 87)
    # SegNet knows no map before the first pooling, which has lost the odd row and column.
    expected = (60, 86) if name == "SegNetDecoder" else (61 // decoder.stride, 87 // decoder.stride)
    scores = decoder(features)
    assert scores.shape[-2:] == expected and scores.isfinite().all()


@every_decoder
def test_sizes_that_were_rounded_up_are_taken(name):
    """As a ResNet's strided convolutions round."""
    decoder = make_decoder(name)
    strides = {level: 64 // x.shape[-2] for level, x in make_features().items()}
    features = {k: x[..., : -(-61 // strides[k]), : -(-87 // strides[k])] for k, x in make_features().items()}
    scores = decoder(features)
    expected = (-(-61 // decoder.stride), -(-87 // decoder.stride))
    if name == "SegNetDecoder":
        expected = (62, 88)
    assert scores.shape[-2:] == expected and scores.isfinite().all()


@every_decoder
def test_the_gradient_reaches_every_parameter_and_every_level(name):
    decoder = make_decoder(name)
    features = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in make_features().items()}
    outputs = [decoder(features), *decoder.auxiliary(features).values()]
    assert len(outputs) == 1 + len(decoder.auxiliary_weights)
    sum((x * torch.randn_like(x)).sum() for x in outputs).backward()
    assert [n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(features[k].grad.any() for k in LEVELS[name] if features[k].is_floating_point())


@every_decoder
def test_channels_last_gives_the_same_scores_in_its_own_format(name):
    decoder = make_decoder(name).eval()
    features = make_features()
    expected = decoder(features)
    last = {k: v.contiguous(memory_format=torch.channels_last) for k, v in features.items()}
    scores = decoder.to(memory_format=torch.channels_last)(last)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    assert scores.is_contiguous(memory_format=torch.channels_last)


@every_decoder
def test_an_image_does_not_see_the_others_of_its_batch(name):
    decoder = make_decoder(name).eval()
    features = make_features()
    alone = decoder({k: v[1:] for k, v in features.items()})
    torch.testing.assert_close(decoder(features)[1:], alone, rtol=1e-4, atol=1e-6)


@every_decoder
def test_bfloat16_trains(name):
    decoder = make_decoder(name)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [decoder(f := make_features(2, 61, 87)), *decoder.auxiliary(f).values()]
    sum(x.float().square().mean() for x in outputs).backward()
    assert all(x.isfinite().all() for x in outputs) and all(p.grad.isfinite().all() for p in decoder.parameters())


@every_decoder
def test_a_batch_of_one_image_trains(name):
    assert make_decoder(name)(make_features(1)).isfinite().all()


@every_decoder
@pytest.mark.parametrize("norm", ["GN", ""])
def test_group_norm_fits_any_width_and_no_norm_is_none(name, norm):
    decoder = make_decoder(name, norm=norm)
    assert decoder(make_features()).isfinite().all()
    norms = [m for m in decoder.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert all(m.num_groups == math.gcd(32, m.num_channels) for m in norms if name != "RSPPDecoder")
    assert bool(norms) == (norm == "GN") or name == "RSPPDecoder"


def _shapes(**strides):
    return {name: ShapeSpec(channels=8, stride=stride) for name, stride in strides.items()}


@pytest.mark.parametrize(
    ("name", "shapes", "message"),
    [
        ("UNetDecoder", _shapes(s1=1, s4=4), r"each has twice .* IN_FEATURES are s1 \(stride 1\), s4 \(stride 4\)"),
        ("UNetDecoder", _shapes(s1=1), "at least 2 levels"),
        ("FCNDecoder", _shapes(s8=8, s32=32), r"twice the stride .* s8 \(stride 8\), s32 \(stride 32\)"),
        ("SegNetDecoder", _shapes(s4=4, s2=2), r"indices of the poolings .* are s4 \(stride 4\), s2 \(stride 2\)"),
        ("SegNetDecoder", _shapes(s8=8, pool3_indices=8, pool1_indices=2), "indices of the poolings that lead to it"),
        ("SegNetDecoder", _shapes(s4=4, pool3_indices=8), "one map and the indices"),
        ("PSPNetDecoder", _shapes(s16=16), "AUXILIARY_WEIGHT to 0"),
        ("DeepLabV3PlusDecoder", _shapes(s16=16), "at least one finer one"),
    ],
)
def test_levels_that_a_decoder_cannot_read_are_told(name, shapes, message):
    with pytest.raises(ValueError, match=message):
        DECODERS_REGISTRY.get(name)(shapes, out_channels=2, conv_dims=8, norm="BN")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("FCNDecoder", {"fc_kernel": 4}, "FC_KERNEL is 4: expected an odd number"),
        ("RSPPDecoder", {"times": 0}, "TIMES is 0: expected at least 1"),
        ("RSPPDecoder", {"bins": [0, 1]}, r"BINS .* are \[0, 1\]"),
        ("DeepLabV3Decoder", {"dilations": [6, 12]}, r"DILATIONS is \[6, 12\]: expected three"),
    ],
)
def test_options_out_of_range_are_told(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_decoder(name, **options)
