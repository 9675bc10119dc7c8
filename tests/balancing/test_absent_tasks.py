"""A task without a label takes no part in any method."""

import pytest
import torch
from torch import Tensor, nn

from mtl_d2.balancing import Balancer

from .toy import (
    HAVE,
    METHODS,
    PRESENT,
    PRIORS,
    TASKS,
    assert_same_bits,
    make,
    nested,
    observe,
    snapshot,
    step_losses,
    totals,
    warmed,
    without_sem_seg,
)

every_method = pytest.mark.parametrize("name", METHODS)


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


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("equal", "fixed", "rlw")])
def test_a_loss_of_zero_is_as_an_absent_task(name: str) -> None:
    """As where a label ignores every pixel of all crops."""
    found, expected = warmed(name), warmed(name)
    for step in range(5, 9):
        values = step_losses(step) * torch.tensor([1.0, 0.0, 1.0])
        flat, weights = found(nested(values), TASKS)
        flat_of_two, weights_of_two = expected(without_sem_seg(values), PRESENT)
        if found.weights_need_losses:
            assert_same_bits(weights, weights_of_two)
            assert sum(flat.values()) == sum(flat_of_two.values())
        elif name != "dwa":  # whose weights sum to the number of labelled tasks
            assert [weights[task] for task in PRESENT] == list(weights_of_two.values())
        learned = [[key for key, p in b.named_parameters() if p in set(b.idle_parameters())] for b in (found, expected)]
        assert learned[0] == learned[1]
        if found.observes_update:
            after = values * torch.tensor([0.95, 1.0, 0.9])
            found.observe_update(totals(values), totals(after))
            expected.observe_update(totals(values[HAVE], PRESENT), totals(after[HAVE], PRESENT))
        assert_same_bits(found.state_dict(), expected.state_dict())


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


@pytest.mark.parametrize("name", [name for name in METHODS if name != "equal"])
def test_a_task_with_a_prior_of_zero_weighs_nothing_and_has_no_state(name: str) -> None:
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
