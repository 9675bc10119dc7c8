"""Hyper features: what is pooled, what is upsampled, and the normalisation."""

import pytest
import torch
from detectron2.layers import ShapeSpec

from mtl_d2.modeling.necks import HyperFeaturesNeck

SHAPES = {name: ShapeSpec(channels=1, stride=stride) for name, stride in (("p2", 4), ("p3", 8), ("p4", 16))}


def test_finer_levels_are_max_pooled_and_coarser_ones_upsampled_by_hand():
    neck = HyperFeaturesNeck(SHAPES, reference="p3", channels=1, norm="")
    with torch.no_grad():
        for scale, compress in zip((1.0, 10.0, 100.0), neck.compress.values(), strict=True):
            compress[0].weight.zero_()[0, 0, 2, 2] = scale  # the middle tap alone
        neck.fuse.weight.fill_(1.0)
    features = {
        "p2": torch.tensor([[[[1.0, 2, 3, 4, 5, 6, 7, 8], [9, 0, 0, 0, 0, 0, 0, 0]]]]),
        "p3": torch.tensor([[[[1.0, 1, 2, 2]]]]),
        "p4": torch.tensor([[[[0.0, 4]]]]),
    }
    found = neck(features, "instance", [(8, 32)])
    hyper = torch.tensor([9.0, 4, 6, 8]) + torch.tensor([10.0, 10, 20, 20]) + torch.tensor([0.0, 100, 300, 400])
    torch.testing.assert_close(found["p3"].flatten(), hyper)
    assert found["p4"].flatten().tolist() == [114.0, 428.0]
    torch.testing.assert_close(
        found["p2"][0, 0, 0, :3], torch.tensor([19.0, 19 * 0.75 + 114 * 0.25, 114 * 0.75 + 4.75])
    )


def test_local_response_norm_is_over_five_channels(make_neck, make_features):
    neck = make_neck("hyper_features", HYPER_FEATURES__CHANNELS=7)
    x = 40 * make_features()["p3"][:, :7]
    found = neck.compress["p3"][2](x)
    power = torch.stack([x[:, max(c - 2, 0) : c + 3].square().sum(dim=1) for c in range(7)], dim=1)
    torch.testing.assert_close(found, x / (1 + 1e-4 * power / 5) ** 0.75)


def test_proposals_and_detection_read_one_map(make_neck, make_features):
    neck = make_neck("hyper_features", HYPER_FEATURES__REFERENCE="p3")
    features = make_features()
    before = neck(features, "instance", [(96, 96)] * 2)
    features["p5"] = features["p5"] + 1.0
    after = neck(features, "instance", [(96, 96)] * 2)
    assert all((after[name] - before[name]).abs().max() > 1e-3 for name in before)


@pytest.mark.parametrize("norm", ["BN", "GN"])
def test_other_norms_are_detectron2s(make_neck, norm):
    neck = make_neck("hyper_features", HYPER_FEATURES__NORM=norm, HYPER_FEATURES__CHANNELS=32)
    assert "Norm" in type(neck.compress["p2"][2]).__name__
