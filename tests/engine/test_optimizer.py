"""Parameter groups."""

import pytest
import torch
from torch import nn

from mtl_d2.balancing import UncertaintyBalancer
from mtl_d2.engine.defaults import setup_cfg
from mtl_d2.engine.optimizer import build_gradient_clipper, build_optimizer

from .toy import toy_network


def options_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict:
    return next(group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))


@pytest.mark.parametrize(("name", "kind"), [("SGD", torch.optim.SGD), ("ADAMW", torch.optim.AdamW)])
def test_norms_and_the_balancer_are_not_decayed_and_every_parameter_is_there_once(name: str, kind: type) -> None:
    model = toy_network()
    model.norm = nn.GroupNorm(2, 8)
    cfg = setup_cfg("", ["SOLVER.MTL.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", 0.3, "SOLVER.WEIGHT_DECAY_BIAS", 0.1])
    optimizer = build_optimizer(cfg, model)
    assert type(optimizer) is kind
    assert options_of(optimizer, model.edge_head.weight)["weight_decay"] == 0.3
    assert options_of(optimizer, model.edge_head.bias)["weight_decay"] == 0.1
    assert options_of(optimizer, model.norm.weight)["weight_decay"] == 0.0
    assert options_of(optimizer, model.balancer["log_variance"])["weight_decay"] == 0.0
    found = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters())


def test_log_variances_have_no_decay_and_a_learning_rate_of_their_own() -> None:
    model = toy_network()
    cfg = setup_cfg("", ["SOLVER.WEIGHT_DECAY", 0.3, "SOLVER.BASE_LR", 0.02, "MODEL.MTL.BALANCER.LR_FACTOR", 5.0])
    model.balancer = UncertaintyBalancer({"sem_seg": 1.0, "edge": 1.0})
    options = options_of(build_optimizer(cfg, model), model.balancer.log_variance["edge"])
    assert (options["weight_decay"], options["lr"]) == (0.0, pytest.approx(0.1))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 'SGD' or 'ADAMW'"):
        build_optimizer(setup_cfg("", ["SOLVER.MTL.OPTIMIZER", "LION"]), toy_network())
    opts = ["SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "most"]
    with pytest.raises(ValueError, match="CLIP_TYPE is 'most'"):
        build_gradient_clipper(setup_cfg("", opts))
