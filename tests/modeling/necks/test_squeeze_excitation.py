"""Task-wise squeeze-excitation: its begin, its gates, its price."""

import torch

SIZES = [(96, 96), (40, 50)]


def test_it_begins_as_the_identity(make_neck, make_features):
    neck, features = make_neck("squeeze_excitation", SQUEEZE_EXCITATION__REDUCTION=2), make_features()
    found = neck(features, "edge", SIZES)
    assert all(torch.equal(found[name], x) for name, x in features.items())
    sum(x.square().sum() for x in found.values()).backward()
    gates = neck.by_task["edge"]
    assert all(gates[name].excite.weight.grad.any() for name in features)


def test_a_gate_by_hand(make_neck, make_features):
    neck, features = make_neck("squeeze_excitation"), make_features()
    gate = neck.by_task["edge"]["p3"]
    with torch.no_grad():
        gate.excite.weight.normal_()
    x = features["p3"]
    mean = torch.stack([x[0].mean(dim=(1, 2)), x[1, :, :5, :7].mean(dim=(1, 2))])
    hidden = (mean @ gate.squeeze.weight.T + gate.squeeze.bias).clamp(min=0)
    expected = x * (2 / (1 + torch.exp(-(hidden @ gate.excite.weight.T))))[:, :, None, None]
    torch.testing.assert_close(neck(features, "edge", SIZES)["p3"], expected)
    assert torch.equal(neck(features, "instance", SIZES)["p3"], x)


def test_its_parameters_are_those_of_the_formula(make_neck):
    neck = make_neck("squeeze_excitation", SQUEEZE_EXCITATION__REDUCTION=8)
    c, r = 32, 8
    per_level = 2 * c * c // r + c // r + c
    assert sum(p.numel() for p in neck.parameters()) == 2 * 5 * per_level
