"""Parameters and multiply-adds of every neck are those of the formulas in docs/necks.md."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from .conftest import LEVELS

C, SIZE = 32, 192
CELLS = {name: (SIZE // stride) ** 2 for name, stride in LEVELS.items()}
ALL = sum(CELLS.values())
L = len(LEVELS)


def hypercolumn() -> tuple[int, int]:
    d = 48
    return L * C * d + d, C * d * ALL


def hyper_features() -> tuple[int, int]:
    k = 6
    return L * (25 * C * k + k) + L * k * C + C, L * k * C * (25 + 1) * CELLS["p3"]


def hypernetwork(made: int, more: int = 0) -> tuple[int, int]:
    """Of two tasks; ``made`` and ``more``: values, and multiply-adds per cell, for each of two convolutions."""
    e, h, depth = 32, 64, 2
    generator = (e + C) * h + h * depth * made
    parameters = depth * (9 * C * C + C) + generator + h + depth * made + 2 * e
    return parameters, depth * (9 * C * C + more) * ALL + generator


def squeeze_excitation() -> tuple[int, int]:
    r = 8
    return 2 * L * (2 * C * C // r + C // r + C), L * 2 * C * C // r


CASES = {
    "hypercolumn": (hypercolumn(), {"HYPERCOLUMN__CHANNELS": 48, "HYPERCOLUMN__NORM": ""}),
    "hyper_features": (hyper_features(), {"HYPER_FEATURES__REFERENCE": "p3", "HYPER_FEATURES__CHANNELS": 6}),
    "hypernetwork": (hypernetwork(2 * C), {}),
    "hypernetwork of low rank": (
        hypernetwork(2 * C * 3, 2 * C * 3),
        {"HYPERNETWORK__FORM": "low_rank", "HYPERNETWORK__RANK": 3},
    ),
    "squeeze_excitation": (squeeze_excitation(), {"SQUEEZE_EXCITATION__REDUCTION": 8}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_price_is_that_of_the_formula(case, make_neck, make_features):
    (parameters, multiply_adds), options = CASES[case]
    neck = make_neck(case.split()[0], **options)
    assert sum(p.numel() for p in neck.parameters()) == parameters
    features = make_features(1, (SIZE, SIZE))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        neck(features, "edge", [(SIZE, SIZE)])
    assert counter.get_total_flops() == 2 * multiply_adds
