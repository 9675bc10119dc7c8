"""What holds for every loss-based method: gradients, resume, infinite losses, dtypes, split steps, bad options."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtl_d2.balancing import Balancer, FixedBalancer, UncertaintyBalancer, build_balancer
from mtl_d2.engine.checkpoint import load_weights

from .toy import (
    HAVE,
    METHODS,
    PRESENT,
    TASKS,
    assert_same_bits,
    config,
    make,
    nested,
    observe,
    snapshot,
    step_losses,
    totals,
    warmed,
    without_sem_seg,
)

LEARNED = ("uncertainty", "imtl_l")
NEED_LOSSES = ("geometric_mean", "stch", "famo")

every_method = pytest.mark.parametrize("name", METHODS)


def total_of(balancer: Balancer, losses: Tensor) -> Tensor:
    return sum(copy.deepcopy(balancer)(nested(losses), TASKS)[0].values())


# FAMO's c is a constant to the gradient by definition: compared with torchjd's.
@pytest.mark.parametrize("name", [name for name in METHODS if name != "famo"])
def test_gradient_of_the_losses_is_that_of_the_value(name: str) -> None:
    balancer = warmed(name).double()
    losses = step_losses(5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: total_of(balancer, x), losses)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("labelled", [TASKS, PRESENT])
def test_gradient_of_the_learned_state_is_that_of_the_value(name: str, labelled: tuple[str, ...]) -> None:
    balancer = warmed(name).double()
    names = [key for key, _ in balancer.named_parameters()]
    losses = nested(step_losses(5).double())

    def total(*state: Tensor) -> Tensor:
        flat, _ = functional_call(balancer, dict(zip(names, state, strict=True)), (losses, labelled))
        return sum(flat.values())

    state = [p.detach().clone().requires_grad_() for p in balancer.parameters()]
    assert torch.autograd.gradcheck(total, state)
    assert all(torch.autograd.grad(total(*state), state)) is (labelled == TASKS)


def test_gradient_of_famos_logits_by_finite_differences() -> None:
    balancer = make("famo", FAMO_GAMMA=0.0).double()
    start = torch.tensor([0.3, -0.2, 0.5], dtype=torch.double)
    balancer.logits += start
    before, after = step_losses(0).double(), 0.5 * step_losses(1).double()
    balancer.observe_update(totals(before), totals(after))

    def weighted_fall(logits: Tensor) -> Tensor:
        return (torch.softmax(logits, dim=0) * (before / after).log()).sum()

    numeric = [
        (weighted_fall(start + h) - weighted_fall(start - h)).item() / 2e-6 for h in 1e-6 * torch.eye(3).double()
    ]
    assert (balancer.exp_avg / 0.1).tolist() == pytest.approx(numeric, abs=1e-6)


def train_steps(balancer: Balancer, optimizer: torch.optim.Optimizer | None, steps: range) -> list[Tensor]:
    values = []
    for step in steps:
        absent = step % 3 == 1
        losses = step_losses(step).requires_grad_()
        flat, weights = balancer(without_sem_seg(losses) if absent else nested(losses), PRESENT if absent else TASKS)
        total = sum(flat.values())
        if optimizer is not None:
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        observe(balancer, losses[HAVE] if absent else losses, PRESENT if absent else TASKS)
        values.append(torch.stack([total.detach(), *weights.values()]))
    return values


@every_method
def test_resumed_at_half_equals_uninterrupted_bit_for_bit(name: str) -> None:
    def fresh() -> tuple[Balancer, torch.optim.Optimizer | None]:
        balancer = make(name)
        parameters = list(balancer.parameters())
        return balancer, torch.optim.SGD(parameters, lr=0.1, momentum=0.9) if parameters else None

    whole, optimizer = fresh()
    expected = train_steps(whole, optimizer, range(10))
    first, optimizer = fresh()
    train_steps(first, optimizer, range(5))
    file = io.BytesIO()
    torch.save((first.state_dict(), optimizer.state_dict() if optimizer else {}), file)
    file.seek(0)
    second, optimizer = fresh()
    state, momentum = torch.load(file, weights_only=True)
    second.load_state_dict(state)
    if optimizer:
        optimizer.load_state_dict(momentum)
    found = train_steps(second, optimizer, range(5, 10))
    assert all(map(torch.equal, found, expected[5:]))
    assert_same_bits(second.state_dict(), whole.state_dict())


@every_method
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_poisons_nothing(name: str, value: float) -> None:
    balancer = warmed(name)
    _, before_weights = balancer(nested(step_losses(5)), TASKS)
    before = snapshot(balancer)
    before.pop("draws", None)  # random weights count draws, whatever the losses
    losses = step_losses(6)
    losses[1] = value
    flat, weights = balancer(nested(losses), TASKS)
    if balancer.observes_update:
        balancer.observe_update(totals(step_losses(6)), totals(losses))
        balancer.observe_update(totals(losses), totals(step_losses(6)))
    after = snapshot(balancer)
    after.pop("draws", None)
    assert_same_bits(after, before)
    assert all(torch.isfinite(w) for w in weights.values())
    if name in NEED_LOSSES:
        assert_same_bits(weights, before_weights)
    assert not torch.isfinite(flat["loss_sem_seg"])  # the trainer has to see it
    if "loss_balance" in flat:
        assert flat["loss_balance"] == 0
    if name in LEARNED:
        flat["loss_balance"].backward()
        assert all(p.grad == 0 for p in balancer.parameters())


@every_method
def test_arithmetic_is_in_float32_under_bfloat16(name: str) -> None:
    losses = step_losses(5).bfloat16()
    flat, weights = warmed(name)(nested(losses.float()), TASKS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flat16, weights16 = warmed(name)({t: {f"loss_{t}": x} for t, x in zip(TASKS, losses, strict=True)}, TASKS)
    assert all(value.dtype == torch.float32 for value in (*flat16.values(), *weights16.values()))
    for task, weight in weights.items():
        torch.testing.assert_close(weights16[task], weight)
    torch.testing.assert_close(sum(flat16.values()), sum(flat.values()))


@pytest.mark.parametrize("name", [name for name in METHODS if name not in NEED_LOSSES])
def test_a_step_in_two_parts_equals_a_whole_one(name: str) -> None:
    whole = warmed(name)
    parts = [step_losses(5), step_losses(6)]
    flats, weights = zip(*(copy.deepcopy(whole)(nested(part), TASKS) for part in parts), strict=True)
    flat, weights_of_mean = whole(nested((parts[0] + parts[1]) / 2), TASKS)
    assert weights[0] == weights[1] == weights_of_mean
    torch.testing.assert_close((sum(flats[0].values()) + sum(flats[1].values())) / 2, sum(flat.values()))


@pytest.mark.parametrize("name", ["dwa", "stch", "famo", "geometric_mean"])
def test_what_is_loaded_belongs_to_tasks_by_their_names(name: str) -> None:
    trained = warmed(name)
    tasks = ["edge", "depth", "instance"]
    fresh = build_balancer(config(name), tasks, (*TASKS, "depth"))
    before, state = copy.deepcopy(fresh.state_dict()), trained.state_dict()
    fresh.load_state_dict(state)
    rows = [key for key, value in state.items() if value.shape == (3,) and key != "task_ids"]
    moved = False
    for key in rows:
        found, expected = fresh.state_dict()[key], state[key]
        assert found.tolist() == [expected[2], before[key][1], expected[0]]
        moved |= not torch.equal(expected, before[key])
    assert rows and moved
    make("fixed").load_state_dict(state, strict=False)  # which has no memory
    older = {key: value for key, value in state.items() if key != "task_ids"}
    same = make(name)
    same.load_state_dict(older)
    assert all(torch.equal(same.state_dict()[key], value) for key, value in state.items())
    again = build_balancer(config(name), tasks, (*TASKS, "depth"))
    again.load_state_dict(fresh.state_dict())
    assert all(torch.equal(again.state_dict()[key], value) for key, value in fresh.state_dict().items())


@pytest.mark.parametrize("name", ["dwa", "famo"])
def test_a_checkpoint_of_more_or_fewer_tasks_leaves_each_what_was_remembered_of_it(name: str, tmp_path) -> None:
    def network(tasks: tuple[str, ...]) -> nn.Module:
        model = nn.Module()
        model.backbone = nn.Linear(2, 2)
        model.balancer = build_balancer(config(name), tasks, TASKS)
        return model

    three, two = network(TASKS), network(PRESENT)
    three.balancer.load_state_dict(warmed(name).state_dict())
    rows = [key for key, value in three.balancer.state_dict().items() if value.shape == (3,) and key != "task_ids"]
    for source, target, at in ((three, two, HAVE), (two, network(TASKS), None)):
        before = copy.deepcopy(target.balancer.state_dict())
        torch.save({"model": source.state_dict()}, tmp_path / "weights.pth")
        report = load_weights(target, str(tmp_path / "weights.pth"))
        assert report.reinitialised == []
        for key in rows:
            found, remembered = target.balancer.state_dict()[key], three.balancer.state_dict()[key]
            expected = remembered[at] if at else torch.stack([remembered[0], before[key][1], remembered[2]])
            assert torch.equal(found, expected), key
    assert rows and any(not torch.equal(three.balancer.state_dict()[k], make(name).state_dict()[k]) for k in rows)


def test_every_method_tells_what_its_trainer_must_do() -> None:
    balancers = {name: make(name) for name in METHODS}
    assert {name for name, b in balancers.items() if b.weights_need_losses} == set(NEED_LOSSES)
    assert {name for name, b in balancers.items() if b.observes_update} == {"famo"}
    assert {name for name, b in balancers.items() if b.learned()} == {*LEARNED, "famo"}
    with pytest.raises(NotImplementedError, match="FixedBalancer does not observe updates"):
        balancers["fixed"].observe_update({}, {})


def test_a_tasks_loss_may_not_be_called_loss_balance() -> None:
    with pytest.raises(ValueError, match="'loss_balance' of task 'edge'"):
        UncertaintyBalancer({"edge": 1.0})({"edge": {"loss_balance": torch.ones(())}}, ["edge"])


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("dwa", "DWA.PERIOD", 0),
        ("dwa", "DWA.TEMPERATURE", 0.0),
        ("dwa", "DWA.TEMPERATURE", float("nan")),
        ("stch", "STCH.MU", -1.0),
        ("stch", "STCH.WARMUP", -1),
        ("famo", "FAMO.LR", float("inf")),
        ("famo", "FAMO.GAMMA", -0.1),
    ],
)
def test_an_option_out_of_its_range_names_its_key(name: str, option: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"MODEL\.MTL\.BALANCER\.{option} is {value}: expected a finite number"):
        make(name, **{option.replace(".", "_"): value})


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("weight", [-1.0, float("nan"), "much"])
def test_an_impossible_weight_is_refused_under_every_name(name: str, weight: float | str) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.MTL\.BALANCER\.WEIGHTS\.edge is"):
        make(name, {"instance": 1.0, "edge": weight})


def test_a_task_without_a_weight_weighs_one() -> None:
    cfg = config()
    del cfg.MODEL.MTL.BALANCER.WEIGHTS["edge"]
    balancer = build_balancer(cfg, ["edge"], TASKS)
    assert isinstance(balancer, FixedBalancer)
    assert balancer.prior.tolist() == [1.0]
