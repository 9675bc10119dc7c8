"""What holds for every loss-based method: absent tasks, gradients, resume, infinite losses, dtypes, split steps."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtl_d2.balancing import Balancer, FixedBalancer, UncertaintyBalancer, build_balancer, task_totals

from .toy import (
    METHODS,
    PRIORS,
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
)

LEARNED = ("uncertainty", "imtl_l")
NEED_LOSSES = ("geometric_mean", "stch", "famo")
HAVE = [0, 2]  # rows of the tasks that are labelled where "sem_seg" is not
PRESENT = ("instance", "edge")

every_method = pytest.mark.parametrize("name", METHODS)


def without_sem_seg(values: Tensor) -> dict[str, dict[str, Tensor]]:
    losses = nested(values)
    losses["sem_seg"] = {"loss_sem_seg": torch.zeros((), requires_grad=True)}
    return losses


def rows_of(balancer: Balancer, task: str) -> dict[str, Tensor]:
    """All state of a task."""
    row = balancer.tasks.index(task)
    of_buffers = {name: b[row].clone() for name, b in balancer.named_buffers() if b.dim() == 1}
    of_parameters = {name: p.detach().clone() for name, p in balancer.named_parameters() if name.endswith(task)}
    return {**of_buffers, **of_parameters}


@every_method
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_an_absent_task_changes_no_bit_of_its_state(name: str, optimizer: type) -> None:
    balancer = warmed(name)
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    parameters = list(balancer.parameters()) or [nn.Parameter(torch.zeros(()))]
    optimizer = optimizer(parameters, lr=0.1, weight_decay=0.0, **options)

    def step(losses: dict[str, dict[str, Tensor]], labelled: tuple[str, ...]) -> None:
        flat, _ = balancer(losses, labelled)
        optimizer.zero_grad()
        sum(flat.values()).backward()
        for parameter in balancer.idle_parameters():
            assert parameter.grad == 0
            parameter.grad = None
        optimizer.step()

    step(nested(step_losses(5).requires_grad_()), TASKS)  # momentum is there
    before = rows_of(balancer, "sem_seg")
    others = rows_of(balancer, "edge")
    for i in range(6, 9):
        step(without_sem_seg(step_losses(i).requires_grad_()), PRESENT)
        observe(balancer, step_losses(i)[HAVE], PRESENT)
    assert_same_bits(rows_of(balancer, "sem_seg"), before)
    if name not in ("equal", "fixed", "rlw"):
        assert any(not torch.equal(value, others[key]) for key, value in rows_of(balancer, "edge").items())


@pytest.mark.parametrize("name", [name for name in METHODS if name != "rlw"])
def test_an_absent_task_does_not_count(name: str) -> None:
    """The others fare as under a balancer that knows no such task."""
    balancer = warmed(name)
    two = make(name, {task: PRIORS[task] for task in PRESENT})
    two.load_state_dict(
        {
            key: value[HAVE] if value.dim() == 1 else value
            for key, value in balancer.state_dict().items()
            if not key.endswith("sem_seg")
        }
    )
    for step in range(5, 9):
        values = step_losses(step)
        flat, weights = balancer(without_sem_seg(values), PRESENT)
        flat_of_two, weights_of_two = two(nested(values[HAVE], PRESENT), PRESENT)
        assert_same_bits(weights, weights_of_two)
        assert sum(flat.values()) == sum(flat_of_two.values())
        observe(balancer, values[HAVE], PRESENT)
        observe(two, values[HAVE], PRESENT)


def test_random_weights_of_the_present_tasks_sum_to_one() -> None:
    _, weights = make("rlw", dict.fromkeys(TASKS, 1.0))(without_sem_seg(step_losses(0)), PRESENT)
    assert set(weights) == set(PRESENT)
    assert sum(weights.values()).item() == pytest.approx(1)


@every_method
def test_a_step_without_any_label_passes_the_zeros_on(name: str) -> None:
    balancer = warmed(name)
    keys = set(balancer(nested(step_losses(5)), TASKS)[0])
    before = snapshot(balancer)
    zeros = nested(torch.zeros(3, requires_grad=True))
    flat, weights = balancer(zeros, ())
    assert weights == {}
    assert set(flat) == keys
    assert all(flat[key] is loss for terms in zeros.values() for key, loss in terms.items())
    total = sum(flat.values())
    total.backward()
    assert total == 0
    assert all(p.grad == 0 for p in balancer.parameters())
    observe(balancer, torch.zeros(0), ())
    assert_same_bits(balancer.state_dict(), before)


@every_method
def test_a_task_with_a_prior_of_zero_weighs_nothing_and_has_no_state(name: str) -> None:
    if name == "equal":
        pytest.skip("it has no priors")
    balancer = make(name, {**PRIORS, "sem_seg": 0.0})
    before = rows_of(balancer, "sem_seg")
    for step in range(3):
        losses = step_losses(step).requires_grad_()
        flat, weights = balancer(nested(losses), TASKS)
        sum(flat.values()).backward()
        assert weights["sem_seg"] == 0
        assert losses.grad[1] == 0
        assert weights["edge"] > 0
        observe(balancer, losses)
    assert_same_bits(rows_of(balancer, "sem_seg"), before)


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
    before.pop("calls", None)  # random weights count draws, whatever the losses
    losses = step_losses(6)
    losses[1] = value
    flat, weights = balancer(nested(losses), TASKS)
    if balancer.observes_update:
        balancer.observe_update(totals(step_losses(6)), totals(losses))
        balancer.observe_update(totals(losses), totals(step_losses(6)))
    after = snapshot(balancer)
    after.pop("calls", None)
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


@every_method
def test_a_step_in_two_parts_equals_a_whole_one(name: str) -> None:
    whole, split = make(name), make(name)
    split.parts_per_step = 2
    for step in range(6):
        parts = torch.stack([step_losses(step), step_losses(step + 100)])
        flat, weights = whole(nested(parts.mean(dim=0)), TASKS)
        if split.weights_need_losses:
            totals_of_parts = [task_totals(nested(part), TASKS) for part in parts]
            mean = {task: torch.stack([part[task] for part in totals_of_parts]).mean() for task in TASKS}
            weights_of_parts, balance = split.weigh(mean)
            flats = [split.apply_weights(nested(part), weights_of_parts, balance) for part in parts]
        else:
            flats, weights_of_parts = [], {}
            for part in parts:
                flat_of_part, weights_of_parts = split(nested(part), TASKS)
                flats.append(flat_of_part)
        torch.testing.assert_close(weights_of_parts, weights)
        torch.testing.assert_close(sum(sum(f.values()) for f in flats) / 2, sum(flat.values()))


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
