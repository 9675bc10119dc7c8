"""Parameter groups, and the learning rate of each over a run."""

from collections.abc import Sequence

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler as detectron2_scheduler
from detectron2.solver.build import get_default_optimizer_params
from torch import nn
from torch.optim.lr_scheduler import _LRScheduler

from mtl_d2.engine.defaults import setup_cfg
from mtl_d2.engine.lr_schedule import build_lr_scheduler
from mtl_d2.engine.optimizer import build_gradient_clipper, build_optimizer
from mtl_d2.engine.parts import layer_factors
from mtl_d2.testing import tiny_cfg

from .toy import ToyNetwork, toy_network

PARTS = "SOLVER.MTL.PARTS"


def options_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict:
    return next(group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))


def network_with_norm() -> ToyNetwork:
    model = toy_network()
    model.norm = nn.GroupNorm(2, 8)
    return model


def lr_curve(opts: Sequence, parameter: str, steps: int) -> list[float]:
    """The learning rate of a parameter in each step of a run."""
    cfg = setup_cfg("", ["SOLVER.MAX_ITER", steps, "SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 0, *opts])
    model = toy_network()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    assert isinstance(scheduler, _LRScheduler)  # else Detectron2's release 0.6 leaves it out of the checkpoint
    rates = []
    for _ in range(steps):
        rates.append(options_of(optimizer, model.get_parameter(parameter))["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "kind"), [("SGD", torch.optim.SGD), ("ADAM", torch.optim.Adam), ("ADAMW", torch.optim.AdamW)]
)
@pytest.mark.parametrize("parts", [(), (f"{PARTS}.edge.LR_FACTOR", 2.0)], ids=["shared", "parts"])
def test_norms_and_the_balancer_are_not_decayed_and_every_parameter_is_there_once(
    name: str, kind: type, parts: Sequence
) -> None:
    model = network_with_norm()
    opts = ["SOLVER.MTL.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", 0.3, "SOLVER.WEIGHT_DECAY_BIAS", 0.1, *parts]
    optimizer = build_optimizer(setup_cfg("", opts), model)
    assert type(optimizer) is kind
    assert options_of(optimizer, model.edge_head.weight)["weight_decay"] == 0.3
    assert options_of(optimizer, model.edge_head.bias)["weight_decay"] == 0.1
    assert options_of(optimizer, model.norm.weight)["weight_decay"] == 0.0
    assert options_of(optimizer, model.balancer["log_variance"])["weight_decay"] == 0.0
    found = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters())


def test_the_defaults_are_detectron2s_groups_and_the_balancer() -> None:
    cfg = setup_cfg("", ["SOLVER.WEIGHT_DECAY_BIAS", 0.2])
    model = network_with_norm()
    optimizer = build_optimizer(cfg, model)
    balancer = model.balancer["log_variance"]
    decay = {"weight_decay": 1e-4, "weight_decay_norm": 0, "weight_decay_bias": 0.2}
    expected = get_default_optimizer_params(model, base_lr=0.001, **decay)
    for group in expected:
        group["params"] = [p for p in group["params"] if p is not balancer]
    expected.append({"params": [balancer], "lr": 0.001, "weight_decay": 0.0})
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == [
        [id(p) for p in group["params"]] for group in expected
    ]
    plain = torch.optim.SGD(expected, lr=0.001, momentum=0.9)
    assert [{**g, "params": 0} for g in optimizer.param_groups] == [{**g, "params": 0} for g in plain.param_groups]
    ours, theirs = build_lr_scheduler(cfg, optimizer), detectron2_scheduler(cfg, plain)
    assert ours.state_dict() == theirs.state_dict()


def test_a_part_has_its_own_rate_and_decay() -> None:
    parts = [f"{PARTS}.sem_seg.LR_FACTOR", 2.0, f"{PARTS}.backbone.WEIGHT_DECAY", 0.5]
    parts += [f"{PARTS}.balancer.LR_FACTOR", 10.0, f"{PARTS}.balancer.WEIGHT_DECAY", 0.25]
    parts += ["MODEL.MTL.BALANCER.NAME", "uncertainty"]
    model = network_with_norm()
    model.backbone["norm"] = nn.GroupNorm(2, 8)
    opts = ["SOLVER.BASE_LR", 0.1, "SOLVER.WEIGHT_DECAY", 0.3, "SOLVER.BIAS_LR_FACTOR", 3.0]
    optimizer = build_optimizer(setup_cfg("", [*opts, *parts]), model)
    found = {
        name: (options_of(optimizer, p)["lr"], options_of(optimizer, p)["weight_decay"])
        for name, p in model.named_parameters()
    }
    assert found["sem_seg_head.weight"] == pytest.approx((0.2, 0.3))
    assert found["sem_seg_head.bias"] == pytest.approx((0.6, 0.3))
    assert found["edge_head.weight"] == pytest.approx((0.1, 0.3))
    assert found["backbone.bottom_up.weight"] == pytest.approx((0.1, 0.5))
    assert found["backbone.bottom_up.bias"] == pytest.approx((0.3, 0.5))  # WEIGHT_DECAY_BIAS is None
    assert found["backbone.norm.weight"] == pytest.approx((0.1, 0.0))
    assert found["balancer.log_variance"] == pytest.approx((1.0, 0.25))
    assert found["unused.weight"] == pytest.approx((0.1, 0.3))  # of no part: as the run


def test_layer_decay_is_by_stage_of_a_resnet_and_leaves_the_fpn() -> None:
    cfg = tiny_cfg(**{f"{PARTS}.backbone.LAYER_DECAY": 0.5, "SOLVER.BASE_LR": 1.0})
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    found = {name: options_of(optimizer, p)["lr"] for name, p in model.named_parameters()}
    expected = {"stem": 1 / 32, "res2": 1 / 16, "res3": 1 / 8, "res4": 1 / 4, "res5": 1 / 2}
    for name, lr in found.items():
        stage = name.split(".")[2] if name.startswith("backbone.bottom_up.") else ""
        assert lr == expected.get(stage, 1.0), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found)


def test_layer_decay_counts_the_blocks_of_a_transformer() -> None:
    backbone = nn.Module()
    backbone.net = nn.Module()
    backbone.net.pos_embed = nn.Parameter(torch.zeros(1, 4, 8))
    backbone.net.patch_embed = nn.Conv2d(3, 8, 4)
    backbone.net.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(2)])
    backbone.net.norm = nn.LayerNorm(8)
    factors = layer_factors(backbone, 0.1)
    assert factors[backbone.net.pos_embed] == factors[backbone.net.patch_embed.bias] == pytest.approx(1e-3)
    assert factors[backbone.net.blocks[0][0].weight] == pytest.approx(1e-2)
    assert factors[backbone.net.blocks[1][1].weight] == pytest.approx(1e-1)
    assert backbone.net.norm.weight not in factors


def test_a_cosine_of_a_part_spans_its_own_steps() -> None:
    opts = ["SOLVER.BASE_LR", 1.0, f"{PARTS}.edge.START", 2, f"{PARTS}.edge.STOP", 6]
    opts += [f"{PARTS}.edge.LR_SCHEDULER_NAME", "WarmupCosineLR", f"{PARTS}.edge.LR_FACTOR", 4.0]
    assert lr_curve(opts, "edge_head.weight", 8) == pytest.approx(
        [0, 0, 4, 2 * (1 + 2**-0.5), 2, 2 * (1 - 2**-0.5), 0, 0], abs=1e-6
    )
    assert lr_curve(opts, "sem_seg_head.weight", 8) == [1.0] * 8


def test_steps_of_a_part_are_those_of_the_run_and_its_warmup_begins_with_it() -> None:
    opts = ["SOLVER.BASE_LR", 1.0, "SOLVER.STEPS", (1, 6), "SOLVER.WARMUP_FACTOR", 0.0]
    opts += [f"{PARTS}.edge.START", 2, f"{PARTS}.edge.WARMUP_ITERS", 2]
    assert lr_curve(opts, "edge_head.weight", 8) == pytest.approx([0, 0, 0, 0.05, 0.1, 0.1, 0.01, 0.01])
    assert lr_curve(opts, "sem_seg_head.weight", 8) == pytest.approx([1, *[0.1] * 5, 0.01, 0.01])
    own_steps = [*opts, f"{PARTS}.edge.STEPS", (5,), f"{PARTS}.edge.GAMMA", 0.5, f"{PARTS}.edge.WARMUP_ITERS", 0]
    assert lr_curve(own_steps, "edge_head.weight", 8) == pytest.approx([0, 0, 1, 1, 1, 0.5, 0.5, 0.5])


def test_the_schedule_of_parts_goes_on_from_its_state() -> None:
    cfg = setup_cfg("", ["SOLVER.MAX_ITER", 8, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", f"{PARTS}.edge.START", 3])
    schedulers = [build_lr_scheduler(cfg, build_optimizer(cfg, toy_network())) for _ in range(2)]
    for _ in range(5):
        schedulers[0].optimizer.step()
        schedulers[0].step()
    schedulers[1].load_state_dict(schedulers[0].state_dict())
    for scheduler in schedulers:
        scheduler.optimizer.step()
        scheduler.step()
    assert schedulers[0].get_last_lr() == schedulers[1].get_last_lr()


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("SOLVER.MTL.OPTIMIZER", "LION"), r"OPTIMIZER is 'LION'; expected one of \['ADAM', 'ADAMW', 'SGD'\]"),
        ((f"{PARTS}.edge.LR_FACTOR", -1.0), r"PARTS.edge.LR_FACTOR is -1.0; expected a finite number of at least 0"),
        ((f"{PARTS}.backbone.LAYER_DECAY", 1.5), "LAYER_DECAY is 1.5; expected a number from 0.0 to 1.0"),
        ((f"{PARTS}.edge.STEPS", (3, 70)), "PARTS.edge.STEPS names step 70, .* 0 and 60"),
        ((f"{PARTS}.edge.START", 61), "PARTS.edge: START is 61; expected a step of the run, 0 to SOLVER.MAX_ITER 60"),
        ((f"{PARTS}.edge.STOP", 0), "PARTS.edge: START is 0 and STOP is 0; expected START before STOP"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(opts: Sequence, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_optimizer(setup_cfg("", ["SOLVER.MAX_ITER", 60, *opts]), toy_network())


def test_an_unknown_clipping_is_refused() -> None:
    opts = ["SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "most"]
    with pytest.raises(ValueError, match="CLIP_TYPE is 'most'"):
        build_gradient_clipper(setup_cfg("", opts))


@pytest.mark.parametrize("key", ["semseg.LR_FACTOR", "edge.LR"])
def test_an_unknown_part_or_key_lists_the_known(key: str) -> None:
    with pytest.raises(ValueError, match=r"not a config key: .*(PARTS has|edge has) .*(sem_seg|LR_FACTOR)"):
        setup_cfg("", [f"{PARTS}.{key}", "2.0"])
