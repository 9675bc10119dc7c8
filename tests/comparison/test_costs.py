"""What networks cost: counts by hand, and seconds that are given."""

import pytest
import torch
from torch import nn
from torch.nn.functional import pixel_shuffle

from mtl_d2.comparison import costs
from mtl_d2.comparison.costs import count_flops, measure_costs


class Convolutions(nn.Module):
    """``count`` convolutions of 1 x 1, one after the other, and a shuffle that nobody counts."""

    device = torch.device("cpu")

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(count)))

    def forward(self, batch):
        return [pixel_shuffle(self.layers(x["image"][None]), 1) for x in batch]


def image(height: int, width: int) -> dict:
    return {"image": torch.zeros(3, height, width)}


def test_multiply_adds_and_calls_are_those_of_one_image_in_the_mean():
    flops, uncounted = count_flops(Convolutions(2), [image(2, 2), image(4, 2), image(4, 3)])
    assert flops == 2 * 3 * 3 * (4 + 8 + 12) / 3
    assert uncounted == {"aten::pixel_shuffle": 1.0}


def test_time_is_per_image_and_a_share_of_the_summed_references(monkeypatch):
    """Rounds of two images. The joint network takes 3, 4 and 6 s where the references take 2 + 6, 2 + 8 and 4 + 12."""
    seconds = {"a": [2.0, 2.0, 4.0], "b": [6.0, 8.0, 12.0], "joint": [3.0, 4.0, 6.0]}
    sizes = {"a": 1, "b": 2, "joint": 3}
    monkeypatch.setattr(costs, "_trained", lambda cfg, weights: Convolutions(cfg))
    monkeypatch.setattr(costs, "_first_inputs", lambda cfg, count: [image(2, 2)] * count)

    def measure(runs, *, rounds, **options):
        assert rounds == 3 and [len(run()) for run in runs.values()] == [2, 2, 2]
        return seconds

    monkeypatch.setattr(costs, "measure", measure)
    found = measure_costs({name: (size, None) for name, size in sizes.items()}, ["a", "b"], rounds=3, images=2)
    assert {name: cost.parameters for name, cost in found.items()} == {"a": 12, "b": 24, "joint": 36}
    assert {name: cost.flops for name, cost in found.items()} == {"a": 36, "b": 72, "joint": 108}
    assert {name: cost.milliseconds for name, cost in found.items()} == {"a": 1000, "b": 4000, "joint": 2000}
    assert found["a"].time_ratio is None and found["b"].time_ratio is None
    ratio = found["joint"].time_ratio
    assert ratio.value == pytest.approx(4 / 10) and ratio.low <= 0.4 <= ratio.high
    assert pytest.approx(ratio.low) == 3 / 8 and ratio.high == pytest.approx(4 / 10)
