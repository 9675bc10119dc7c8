"""Where all tasks are present, training with a method equals training with torchjd's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mtl_d2.balancing import Balancer

from .toy import PRIORS, TASKS, learned, make, nested, totals

scalarization = pytest.importorskip("torchjd.scalarization")

STEPS, LR = 7, 0.05
TARGETS = torch.tensor([[1.0, 2.0, -1.0, 0.5], [0.0, -3.0, 1.0, 4.0], [0.5, 0.1, 0.2, -0.3]])
ALPHA = torch.tensor(list(PRIORS.values()))


def losses_of(x: Tensor) -> Tensor:
    """Three losses (3,) of the shared weights x (4,)."""
    return 0.1 + ((x - TARGETS).square() * torch.tensor([[1.0], [3.0], [0.1]])).mean(dim=1)


def train(total: Callable[[Tensor], Tensor], parameters: list[Tensor], after: Callable[[Tensor, Tensor], None]) -> list:
    """The values of the total and of x, step by step."""
    x = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.SGD([x, *parameters], lr=LR, momentum=0.9)
    history = []
    for _ in range(STEPS):
        losses = losses_of(x)
        value = total(losses)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        history.append((value.detach(), x.detach().clone(), x.grad.clone()))
        with torch.no_grad():
            after(losses.detach(), losses_of(x))
    return history


def ours(balancer: Balancer) -> list:
    def observe(before: Tensor, after: Tensor) -> None:
        if balancer.observes_update:
            balancer.observe_update(totals(before), totals(after))

    def total(losses: Tensor) -> Tensor:
        return sum(balancer(nested(losses), TASKS)[0].values())

    return train(total, learned(balancer), observe)


def nothing(before: Tensor, after: Tensor) -> None: ...


def assert_equal(found: list, expected: list) -> None:
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5, msg=lambda m, step=step: f"step {step}: {m}")


@pytest.mark.parametrize(("name", "reference"), [("uncertainty", "UW"), ("imtl_l", "IMTLL")])
def test_learned_scales(name: str, reference: str) -> None:
    scalarizer = getattr(scalarization, reference)(3)
    balancer = make(name)
    expected = train(lambda losses: scalarizer(ALPHA * losses), list(scalarizer.parameters()), nothing)
    assert_equal(ours(balancer), expected)
    (theirs,) = scalarizer.parameters()
    assert theirs.abs().min() > 1e-3
    torch.testing.assert_close(torch.stack(learned(balancer)), theirs)


@pytest.mark.parametrize(("name", "weights"), [("fixed", ALPHA), ("equal", torch.ones(3))])
def test_weighted_sums(name: str, weights: Tensor) -> None:
    scalarizer = scalarization.Constant(weights)
    assert_equal(ours(make(name)), train(scalarizer, [], nothing))


def test_geometric_mean() -> None:
    scalarizer = scalarization.GeometricMean()
    assert_equal(ours(make("geometric_mean")), train(lambda losses: scalarizer(ALPHA * losses), [], nothing))


def test_dwa() -> None:
    scalarizer = scalarization.DWA(temperature=0.7)
    steps = iter(range(1, STEPS + 1))

    def end_of_period(before: Tensor, after: Tensor) -> None:
        if next(steps) % 2 == 0:
            scalarizer.step()

    expected = train(lambda losses: scalarizer(ALPHA * losses), [], end_of_period)
    assert_equal(ours(make("dwa", DWA_PERIOD=2, DWA_TEMPERATURE=0.7)), expected)


def test_stch() -> None:
    scalarizer = scalarization.STCH(0.3, weights=ALPHA)
    assert_equal(ours(make("stch", STCH_MU=0.3, STCH_WARMUP=0)), train(scalarizer, [], nothing))


def test_stch_with_a_nadir() -> None:
    seen: list[Tensor] = []

    def reference(losses: Tensor) -> Tensor:
        seen.append(losses.detach())
        nadir = torch.stack(seen[:3]).mean(dim=0)
        return scalarization.STCH(0.3, weights=ALPHA / nadir)(losses)

    assert_equal(ours(make("stch", STCH_MU=0.3, STCH_WARMUP=3)), train(reference, [], nothing))


def test_famo() -> None:
    scalarizer = scalarization.FAMO(3, lr=0.1, weight_decay=0.01)
    balancer = make("famo", FAMO_LR=0.1, FAMO_GAMMA=0.01)
    expected = train(
        lambda losses: scalarizer(ALPHA * losses), [], lambda before, after: scalarizer.update(ALPHA * after)
    )
    assert_equal(ours(balancer), expected)
    assert scalarizer._w.abs().min() > 1e-2
    torch.testing.assert_close(balancer.logits, scalarizer._w.detach())


def test_random_weights_have_the_same_distribution() -> None:
    torch.manual_seed(0)
    draws = 2000
    balancer = make("rlw", dict.fromkeys(TASKS, 1.0))
    mine = torch.stack([torch.stack(list(balancer(nested(torch.ones(3)), TASKS)[1].values())) for _ in range(draws)])
    ones = torch.ones(3, requires_grad=True)
    theirs = torch.stack([torch.autograd.grad(scalarization.Random()(ones), ones)[0] for _ in range(draws)])
    # Standard errors of both figures are below 0.006 and 0.005.
    torch.testing.assert_close(mine.mean(dim=0), theirs.mean(dim=0), rtol=0, atol=0.025)
    torch.testing.assert_close(mine.std(dim=0), theirs.std(dim=0), rtol=0, atol=0.025)
    torch.testing.assert_close(
        torch.cov(mine.log().T.diff(dim=0)), torch.tensor([[2.0, -1], [-1, 2]]), rtol=0, atol=0.3
    )
