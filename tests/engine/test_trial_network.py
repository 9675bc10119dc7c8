"""A network that is built to be looked at."""

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mtl_d2.engine.trial_network import build_trial
from mtl_d2.testing import tiny_cfg


class Counting(nn.Module):
    """One that reads a number of its own while it is built."""

    def __init__(self, cfg):
        super().__init__()
        self.layer = nn.Linear(2, int(torch.arange(3).sum()))


def test_it_has_the_shapes_of_the_network_no_memory_and_draws_nothing():
    cfg = tiny_cfg()
    before = torch.get_rng_state()
    trial = build_trial(cfg)
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.device.type for p in trial.parameters()} == {"meta"}
    network = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    assert {n: p.shape for n, p in trial.named_parameters()} == {n: p.shape for n, p in network.named_parameters()}


def test_one_that_computes_while_it_is_built_is_built_on_the_cpu(monkeypatch):
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "Counting", Counting)
    cfg = tiny_cfg(**{"MODEL.META_ARCHITECTURE": "Counting"})
    assert build_trial(cfg).layer.weight.shape == (3, 2)


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_its_own_error_is_kept(error, monkeypatch):
    def fail(cfg):
        raise error("no")

    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "Failing", fail)
    with pytest.raises(error, match="^no$"):
        build_trial(tiny_cfg(**{"MODEL.META_ARCHITECTURE": "Failing"}))
