"""A balancer inside the joint network."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2.testing import ALL_TASKS, random_batched_inputs, tiny_cfg


def test_learned_state_has_its_gradient_and_is_logged() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_cfg(ALL_TASKS, **{"MODEL.MTL.BALANCER.NAME": "uncertainty"}))
    with torch.no_grad():
        model.balancer.log_variance["edge"].fill_(0.25)
    with EventStorage() as storage:
        losses = model(random_batched_inputs(2))
        values = {name: value for name, (value, _) in storage.latest().items()}
    assert values["balancer/log_variance.edge"] == 0.25
    assert values["balance/edge"] == pytest.approx(0.5 * math.exp(-0.25))
    sum(losses.values()).backward()
    expected = 0.5 - 0.5 * math.exp(-0.25) * values["task/edge"]
    assert model.balancer.log_variance["edge"].grad.item() == pytest.approx(expected, rel=1e-5)
