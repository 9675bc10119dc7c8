"""Which tasks and parts are trained in which step: the schedule, and what it does to weights, state and ranks."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn

from mtl_d2.balancing import FixedBalancer
from mtl_d2.engine import task_schedule_hook
from mtl_d2.engine.config_checks import check_solver
from mtl_d2.engine.defaults import setup_cfg
from mtl_d2.engine.fit import fit
from mtl_d2.engine.launch import create_ddp, launch
from mtl_d2.engine.optimizer import gradient_clipper
from mtl_d2.engine.task_schedule import TaskSchedule
from mtl_d2.engine.task_schedule_hook import TaskScheduleHook
from mtl_d2.engine.trainer import MultiTaskTrainer, seed_step
from mtl_d2.testing import ALL_TASKS

from .toy import ToyNetwork, batches, multitask_network, toy_network

TASKS = ("sem_seg", "edge")
STEPS = 6
OPTIMIZERS: dict[str, Callable] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}
ALTERNATING = {"name": "alternating", "freeze": [{"PART": "backbone", "FROM": 1, "TO": 4}], "reset_momentum": True}


class NormedNetwork(ToyNetwork):
    """With a batch norm in the backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone["bottom_up"] = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))


def normed_network() -> NormedNetwork:
    torch.manual_seed(0)
    return NormedNetwork()


class Recorder(HookBase):
    """Keeps the state of the model and of the optimizer after each step."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []
        self.momenta: list[dict[str, torch.Tensor]] = []

    def before_train(self) -> None:
        self._keep()

    def after_step(self) -> None:
        self._keep()

    def _keep(self) -> None:
        model, optimizer = self.trainer.model, self.trainer.optimizer
        self.states.append({key: value.clone() for key, value in model.state_dict().items()})
        momenta = {name: optimizer.state.get(p, {}).get("momentum_buffer") for name, p in model.named_parameters()}
        self.momenta.append({name: buffer.clone() for name, buffer in momenta.items() if buffer is not None})

    def moved(self, key: str) -> list[bool]:
        """Whether an entry of the state changed in each step."""
        return [not torch.equal(a[key], b[key]) for a, b in zip(self.states, self.states[1:], strict=False)]


def train(
    model: nn.Module,
    output_dir: Path,
    schedule: TaskSchedule,
    *,
    optimizer: str = "sgd",
    load: Callable = batches,
    max_iter: int | None = None,
    hooks: Sequence[HookBase] = (),
    **options,
) -> MultiTaskTrainer:
    hook = TaskScheduleHook(schedule, model, log_period=3)
    made = OPTIMIZERS[optimizer](model.parameters())
    clip = gradient_clipper("full_model", 1.0)
    trainer = MultiTaskTrainer(create_ddp(model), load, made, seed=5, clip_gradients=clip, log_period=3)
    scheduler = LRMultiplier(made, CosineParamScheduler(1, 0.1), max_iter=schedule.max_iter)
    stop = max_iter or schedule.max_iter
    fit(trainer, scheduler, max_iter=stop, output_dir=str(output_dir), more_hooks=[hook, *hooks], **options)
    return trainer


def schedule_of(**options) -> TaskSchedule:
    return TaskSchedule(**{"tasks": TASKS, "max_iter": STEPS, **options})


def test_joint_has_all_tasks_in_every_step() -> None:
    schedule = TaskSchedule.from_config(setup_cfg())
    assert schedule.is_joint
    assert schedule.active(7) == ("instance", "sem_seg", "edge")
    assert schedule.frozen(7) == frozenset()


def test_alternating_is_a_round_robin_of_the_tasks_that_run() -> None:
    in_turn = schedule_of(name="alternating", period=2, max_iter=8)
    assert [in_turn.active(step)[0] for step in range(8)] == ["sem_seg"] * 2 + ["edge"] * 2 + ["sem_seg"] * 2 + [
        "edge"
    ] * 2
    late = schedule_of(name="alternating", pattern=("edge", "edge", "sem_seg"), windows={"sem_seg": (3, 6)}, max_iter=8)
    assert [late.active(step)[0] for step in range(8)] == [*["edge"] * 3, "edge", "edge", "sem_seg", "edge", "edge"]
    assert late.share("sem_seg", 3, 6) == pytest.approx(1 / 3)


def test_a_config_gives_windows_and_freezes() -> None:
    opts = ["SOLVER.MAX_ITER", 10, "SOLVER.MTL.PARTS.edge.START", 4, "SOLVER.MTL.PARTS.backbone.STOP", 8]
    opts += ["SOLVER.MTL.SCHEDULE.FREEZE", "[{'PART': 'sem_seg', 'FROM': 5, 'TO': -1}]"]
    schedule = TaskSchedule.from_config(setup_cfg("", opts))
    assert schedule.active(3) == ("instance", "sem_seg")
    assert schedule.active(4) == ("instance", "sem_seg", "edge")
    assert [sorted(schedule.frozen(step)) for step in (4, 5, 8)] == [[], ["sem_seg"], ["backbone", "sem_seg"]]


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("SCHEDULE.NAME", "random"), r"NAME is 'random'; expected one of \['joint', 'alternating'\]"),
        (("SCHEDULE.PATTERN", "['egde']"), "PATTERN names 'egde'; expected tasks of MODEL.MTL.TASKS"),
        (("SCHEDULE.PERIOD", 0), "PERIOD is 0; expected at least 1"),
        (("SCHEDULE.FREEZE", "[{'PART': 'neck', 'FROM': 0, 'TO': 5}]"), "names the part 'neck'; this network has"),
        (("SCHEDULE.FREEZE", "[{'PART': 'edge', 'FROM': 0}]"), "expected entries such as {PART: backbone"),
        (("SCHEDULE.FREEZE", "[{'PART': 'edge', 'FROM': 0, 'TO': 61}]"), "TO is 61; expected a step of the run"),
        (
            ("SCHEDULE.FREEZE", "[{'PART': 'edge', 'FROM': 9, 'TO': 9}]"),
            "FROM is 9 and TO is 9; expected FROM",
        ),
        (("SCHEDULE.FREEZE", "[{'PART': 'edge', 'FROM': 'x', 'TO': 9}]"), "FROM is 'x'; expected the number of a step"),
        (("SCHEDULE.NAME", "alternating", "SCHEDULE.PATTERN", "['edge', 'sem_seg']"), "'instance' is never active"),
        (("PARTS.edge.START", 60), "PARTS.edge: START is 60 and STOP is 60; expected START before STOP"),
        (
            [word for task in ("instance", "sem_seg", "edge") for word in (f"PARTS.{task}.STOP", 50)],
            "no task is active in step 50",
        ),
        (
            ("SCHEDULE.NAME", "alternating", "SCHEDULE.FREEZE")
            + ("[{'PART': 'edge', 'FROM': 7, 'TO': -1}, {'PART': 'backbone', 'FROM': 0, 'TO': 20}]",),
            "nothing is trained in step 8: .* has edge active",
        ),
        (("PARTS.edge.LR_SCHEDULER_NAME", "Poly"), "PARTS.edge.LR_SCHEDULER_NAME: Unknown LR scheduler: Poly"),
        (("EMA.ENABLED", True, "EMA.DECAY", 1.0), "EMA.DECAY is 1.0; expected at least 0 and less than 1"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(opts: Sequence, message: str) -> None:
    keys = [f"SOLVER.MTL.{word}" if i % 2 == 0 else word for i, word in enumerate(opts)]
    with pytest.raises(ValueError, match=message):
        check_solver(setup_cfg("", ["SOLVER.MAX_ITER", 60, *keys]))


@pytest.mark.parametrize("name", ["famo", "gradnorm", "dwa", "fixed"])
@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("PARTS.balancer.STOP", 50, "PARTS.balancer.STOP"),
        ("PARTS.balancer.LR_FACTOR", 10.0, "PARTS.balancer.LR_FACTOR"),
        ("SCHEDULE.FREEZE", "[{'PART': 'balancer', 'FROM': 0, 'TO': 5}]", "SCHEDULE.FREEZE of balancer"),
    ],
)
def test_a_balancer_without_parameters_is_no_part_to_train(name: str, key: str, value: object, named: str) -> None:
    opts = ["SOLVER.MAX_ITER", 60, f"SOLVER.MTL.{key}", value, "MODEL.MTL.BALANCER.NAME"]
    with pytest.raises(ValueError, match=rf"SOLVER.MTL.{named} is set, but .*NAME '{name}' learns no parameters"):
        check_solver(setup_cfg("", [*opts, name]))
    check_solver(setup_cfg("", [*opts, "uncertainty"]))


def test_a_schedule_that_freezes_a_balancer_without_parameters_is_refused_with_the_model() -> None:
    model = toy_network()
    model.balancer = FixedBalancer(dict.fromkeys(TASKS, 1.0))
    with pytest.raises(ValueError, match="the schedule freezes the balancer, but a FixedBalancer learns no parameters"):
        TaskScheduleHook(schedule_of(windows={"balancer": (0, 3)}), model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_momentum_and_decay_move_no_idle_part(tmp_path: Path, optimizer: str) -> None:
    record = Recorder()
    schedule = schedule_of(
        windows={"edge": (0, 4), "sem_seg": (1, 6)}, freeze=[{"PART": "sem_seg", "FROM": 3, "TO": 5}]
    )
    train(toy_network(), tmp_path, schedule, optimizer=optimizer, hooks=[record])
    assert record.moved("edge_head.weight") == [True] * 4 + [False] * 2
    assert record.moved("sem_seg_head.weight") == [False, True, True, False, False, True]
    assert record.moved("backbone.bottom_up.weight") == [True] * 6


def test_a_frozen_backbone_keeps_weights_and_batch_norm_statistics_over_an_evaluation(tmp_path: Path) -> None:
    record = Recorder()
    model = normed_network()
    schedule = schedule_of(freeze=[{"PART": "backbone", "FROM": 2, "TO": 4}])
    options = {"evaluate": lambda: model.eval() and model.train() and {}, "eval_period": 3}
    train(model, tmp_path, schedule, hooks=[record], **options)
    for key in ("fpn_lateral2.weight", "bottom_up.1.running_mean", "bottom_up.1.weight"):
        assert record.moved(f"backbone.{key}") == [True, True, False, False, True, True], key
    assert record.moved("edge_head.weight") == [True] * 6
    assert all(p.requires_grad for p in model.parameters())


def test_parts_that_are_frozen_together_are_shared_in_the_same_order_on_all_ranks(monkeypatch) -> None:
    shared = []
    monkeypatch.setattr(task_schedule_hook, "share_buffers", shared.append)
    model = multitask_network(FixedBalancer(dict.fromkeys(ALL_TASKS, 1.0)))
    parts = ["sem_seg", "backbone", "instance", "edge"]
    hook = TaskScheduleHook(TaskSchedule(tasks=ALL_TASKS, max_iter=9), model)
    hook._freeze(frozenset(parts))
    expected = [model.backbone, model.edge_head, model.instance_head, model.sem_seg_head]
    assert [id(module) for module in shared] == [id(module) for module in expected]


@pytest.mark.parametrize("reset", [False, True])
def test_momentum_at_the_thaw_is_kept_or_dropped(tmp_path: Path, reset: bool) -> None:
    record, gradients = Recorder(), []
    model = toy_network()
    key = "backbone.bottom_up.weight"

    class Gradients(HookBase):
        def after_step(self) -> None:
            grad = model.get_parameter(key).grad
            gradients.append(None if grad is None else grad.clone())

    schedule = schedule_of(freeze=[{"PART": "backbone", "FROM": 2, "TO": 4}], reset_momentum=reset)
    train(model, tmp_path, schedule, hooks=[record, Gradients()])
    assert gradients[2] is None
    before = record.momenta[2][key]  # after the two steps before the freeze
    torch.testing.assert_close(record.momenta[4][key], before, rtol=0, atol=0)
    fresh = gradients[4] + 0.01 * record.states[4][key]  # with the weight decay, as SGD does
    torch.testing.assert_close(record.momenta[5][key], fresh if reset else 0.9 * before + fresh)


def test_an_idle_task_is_out_of_the_clipping(tmp_path: Path) -> None:
    norms = []

    class Norm(HookBase):
        def after_step(self) -> None:
            grads = [p.grad.flatten() for p in self.trainer.model.parameters() if p.grad is not None]
            norms.append((float(torch.cat(grads).norm()), self.trainer.model.edge_head.weight.grad is None))

    train(toy_network(), tmp_path, schedule_of(name="alternating"), hooks=[Norm()])
    assert [idle for _, idle in norms] == [True, False] * 3
    assert max(norm for norm, _ in norms) <= 1.0 + 1e-5


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("half", [2, 4])  # within the freeze, and at the thaw
def test_a_resumed_schedule_equals_an_uninterrupted_one_bit_by_bit(tmp_path: Path, optimizer: str, half: int) -> None:
    schedule = schedule_of(**ALTERNATING)
    whole, parts = normed_network(), normed_network()
    train(whole, tmp_path / "whole", schedule, optimizer=optimizer)
    train(normed_network(), tmp_path / "parts", schedule, optimizer=optimizer, max_iter=half)
    train(parts, tmp_path / "parts", schedule, optimizer=optimizer, resume=True)
    for (key, a), b in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def _train_on_this_rank(output_dir: str) -> None:
    rank = comm.get_rank()
    model = toy_network()
    model.unused.requires_grad_(False)
    freeze = [*ALTERNATING["freeze"], {"PART": "balancer", "FROM": 0, "TO": -1}]
    schedule = schedule_of(**{**ALTERNATING, "freeze": freeze})
    train(model, Path(output_dir), schedule, load=lambda start: batches(start, rank))


def test_two_processes_equal_one_that_averages_the_gradients_of_their_shards(tmp_path: Path) -> None:
    launch(_train_on_this_rank, 2, dist_url="auto", args=(str(tmp_path),), device="cpu")
    found = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]

    model = toy_network()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    scheduler = LRMultiplier(optimizer, CosineParamScheduler(1, 0.1), max_iter=STEPS)
    shards = [batches(0, rank) for rank in (0, 1)]
    for iteration in range(STEPS):
        optimizer.zero_grad()
        active = TASKS[iteration % 2]
        for rank, shard in enumerate(shards):
            seed_step(5, rank, iteration)
            (model(next(shard))[f"loss_{active}"] / 2).backward()
        idle = [model.get_submodule(f"{task}_head") for task in TASKS if task != active]
        for module in [*idle, model.balancer, model.unused, *([model.backbone] if 1 <= iteration < 4 else [])]:
            for p in module.parameters():
                p.grad = None
        if iteration == 4:
            for p in model.backbone.parameters():
                del optimizer.state[p]
        gradient_clipper("full_model", 1.0)(model.parameters())
        optimizer.step()
        scheduler.step()
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(found["edge_head.weight"], start["edge_head.weight"])


def test_the_log_has_means_over_active_steps_and_the_share_of_them(tmp_path: Path) -> None:
    model = toy_network()
    seen: list[dict] = []
    forward = model.forward
    model.forward = lambda batch: seen.append(forward(batch)) or seen[-1]
    train(model, tmp_path, schedule_of(name="alternating"))
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    first = next(line for line in lines if "loss_edge" in line)
    assert first["loss_edge"] == pytest.approx(float(seen[1]["loss_edge"].detach()))
    assert first["loss_sem_seg"] == pytest.approx(sum(float(seen[i]["loss_sem_seg"].detach()) for i in (0, 2)) / 2)
    assert (first["active/edge"], first["active/sem_seg"]) == pytest.approx((1 / 3, 2 / 3))


def test_a_model_without_the_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the schedule names depth; expected parts of the model, which has backbone"):
        TaskScheduleHook(schedule_of(tasks=("sem_seg", "depth"), name="alternating"), toy_network())
