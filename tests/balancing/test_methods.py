"""Every method: a case computed by hand."""

import math

import pytest
import torch

from mtl_d2.balancing import Balancer

from .toy import learned, make, nested, totals

TWO = ("instance", "edge")
ONES = dict.fromkeys(TWO, 1.0)


def run(balancer: Balancer, *values: float) -> tuple[float, list[float], list[float]]:
    """The sum of the flat losses, the weights, and the gradient of the learned state."""
    losses = torch.tensor(values, requires_grad=True)
    flat, weights = balancer(nested(losses, TWO), TWO)
    total = sum(flat.values())
    total.backward()
    found = [w.item() for w in weights.values()]
    # What the losses are multiplied by is what reaches the network.
    assert losses.grad.tolist() == pytest.approx(found)
    return total.item(), found, [p.grad.item() for p in learned(balancer)]


def set_state(balancer: Balancer, *values: float) -> None:
    with torch.no_grad():
        for parameter, value in zip(learned(balancer), values, strict=True):
            parameter.fill_(value)


def test_equal_ignores_the_weights_of_the_config() -> None:
    assert run(make("equal", {"instance": 3.0, "edge": 0.5}), 2.0, 8.0) == (10.0, [1.0, 1.0], [])


def test_uncertainty() -> None:
    balancer = make("uncertainty", ONES)
    set_state(balancer, 0.0, math.log(4))
    value, weights, gradient = run(balancer, 2.0, 8.0)
    assert value == pytest.approx(0.5 * 2 + 0.5 * 8 / 4 + 0.5 * math.log(4))
    assert weights == pytest.approx([1 / 2, 1 / 8])
    assert gradient == pytest.approx([0.5 * (1 - 2), 0.5 * (1 - 2)])


def test_imtl_l() -> None:
    balancer = make("imtl_l", ONES)
    set_state(balancer, 0.0, math.log(0.5))
    value, weights, gradient = run(balancer, 2.0, 8.0)
    assert value == pytest.approx(2 + 4 + math.log(2))
    assert weights == pytest.approx([1, 0.5])
    assert gradient == pytest.approx([2 - 1, 4 - 1])


def test_dwa_compares_the_means_of_the_last_two_periods() -> None:
    balancer = make("dwa", ONES, DWA_PERIOD=2, DWA_TEMPERATURE=2.0)
    for values in ((3.0, 4.0), (5.0, 4.0), (1.0, 3.0), (3.0, 5.0)):  # means 4, 4; then 2, 4
        assert run(balancer, *values)[1] == pytest.approx([1, 1])
    slow = math.exp(1 / 2) / (math.exp(0.5 / 2) + math.exp(1 / 2))
    value, weights, _ = run(balancer, 1.0, 1.0)
    assert weights == pytest.approx([2 * (1 - slow), 2 * slow])
    assert value == pytest.approx(2)


def test_rlw_draws_weights_that_sum_to_one() -> None:
    balancer = make("rlw", ONES)
    drawn = [run(balancer, 2.0, 8.0)[1] for _ in range(20)]
    assert all(sum(weights) == pytest.approx(1) and min(weights) > 0 for weights in drawn)
    assert len({weights[0] for weights in drawn}) == 20


def test_rlw_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    balancer = make("rlw", {"instance": 2.0, "edge": 0.5})
    monkeypatch.setattr(balancer, "_draw", lambda number: torch.tensor([math.log(3.0), 0.0]))  # so 3/4 and 1/4
    value, weights, gradient = run(balancer, 2.0, 8.0)
    assert weights == pytest.approx([2 * 3 / 4, 0.5 / 4])
    assert value == pytest.approx(2 * 3 / 4 * 2 + 0.5 / 4 * 8)


def test_geometric_mean() -> None:
    value, weights, _ = run(make("geometric_mean", ONES), 2.0, 8.0)
    assert value == pytest.approx(4)
    assert weights == pytest.approx([4 / (2 * 2), 4 / (2 * 8)])


@pytest.mark.parametrize("name", ["geometric_mean", "stch", "famo"])
def test_a_loss_of_zero_is_passed_on_and_leaves_the_others_their_weight(name: str) -> None:
    losses = torch.tensor([0.0, 9.0], requires_grad=True)
    flat, weights = make(name, ONES, STCH_WARMUP=0)(nested(losses, TWO), TWO)
    assert weights == {"edge": 1}  # of one task alone, for all three
    sum(flat.values()).backward()
    assert losses.grad.tolist() == [1, 1]


def test_stch_without_warmup_is_a_smooth_maximum_of_the_losses() -> None:
    value, weights, _ = run(make("stch", ONES, STCH_WARMUP=0, STCH_MU=0.5), 1.0, 1 + 0.5 * math.log(3))
    assert value == pytest.approx(1 + 0.5 * math.log(1 + 3))
    assert weights == pytest.approx([1 / 4, 3 / 4])


def test_stch_measures_losses_in_units_of_their_mean_in_the_warmup() -> None:
    balancer = make("stch", ONES, STCH_WARMUP=2, STCH_MU=1.0)
    assert run(balancer, 2.0, 10.0)[1] == pytest.approx([1 / 2 / 2, 1 / 2 / 10])  # both are one unit
    run(balancer, 4.0, 30.0)  # units are 3 and 20 from here on
    for _ in range(2):
        value, weights, _ = run(balancer, 3.0, 20 * (1 + math.log(3)))
        assert value == pytest.approx(1 + math.log(4), abs=1e-5)
        assert weights == pytest.approx([1 / 4 / 3, 3 / 4 / 20])


def test_famo_weighs_by_the_inverse_of_the_losses() -> None:
    value, weights, _ = run(make("famo", ONES), 1.0, 3.0)
    assert weights == pytest.approx([0.75, 0.25])  # c = 1 / (1/2 + 1/6) = 1.5
    assert value == pytest.approx(1.5 * 0.5 * math.log(3))


def test_famo_gives_more_to_the_task_that_fell_less() -> None:
    balancer = make("famo", ONES, FAMO_LR=0.1, FAMO_GAMMA=0.0)
    balancer.observe_update(totals(torch.tensor([1.0, 1.0]), TWO), totals(torch.tensor([1.0, math.exp(-1)]), TWO))
    # Adam's first step has the size lr; the gradient is z * (fall - sum(z * fall)) = (-1/4, 1/4)
    assert balancer.logits.tolist() == pytest.approx([0.1, -0.1])
    assert balancer.exp_avg.tolist() == pytest.approx([-0.025, 0.025])
    z = math.exp(0.1) / (math.exp(0.1) + math.exp(-0.1))
    assert run(balancer, 1.0, 1.0)[1] == pytest.approx([z, 1 - z])


def test_famo_decays_its_logits() -> None:
    balancer = make("famo", ONES, FAMO_GAMMA=0.5)
    balancer.logits += torch.tensor([2.0, -1.0])
    same = totals(torch.ones(2), TWO)
    balancer.observe_update(same, same)
    assert balancer.exp_avg.tolist() == pytest.approx([0.1 * 0.5 * 2, 0.1 * 0.5 * -1])


def test_famo_tells_once_that_nobody_observes(caplog: pytest.LogCaptureFixture) -> None:
    silent, observed = make("famo", ONES), make("famo", ONES)
    for _ in range(5):
        run(observed, 1.0, 2.0)
        observed.observe_update(totals(torch.ones(2), TWO), totals(torch.ones(2), TWO))
    assert not caplog.records
    for _ in range(5):
        run(silent, 1.0, 2.0)
    assert [record.message.count("observe_update()") for record in caplog.records] == [1]


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("fixed", 6),
        ("uncertainty", 3),
        ("imtl_l", 6),
        ("dwa", 6),
        ("geometric_mean", math.sqrt(6 * 6) / 2),
        ("famo", 3),
    ],
)
def test_a_prior_weight_makes_tasks_of_unlike_scale_alike(name: str, scale: float) -> None:
    """alpha * L is 6 for both tasks: both get the same say, whatever the method."""
    _, weights, _ = run(make(name, {"instance": 3.0, "edge": 0.5}), 2.0, 12.0)
    assert [2 * weights[0], 12 * weights[1]] == pytest.approx([scale, scale])


def test_prior_weights_scale_random_ones() -> None:
    _, drawn, _ = run(make("rlw", ONES), 2.0, 12.0)
    _, scaled, _ = run(make("rlw", {"instance": 3.0, "edge": 0.5}), 2.0, 12.0)
    assert sum(drawn) == pytest.approx(1) and scaled == pytest.approx([3 * drawn[0], 0.5 * drawn[1]])
