"""Gradient methods: two tasks by hand, torchjd on the full Jacobian, GradNorm's descent, what is refused."""

import math
import sys

import pytest
import torch
from torch import nn

from mtl_d2.balancing import GradNormBalancer, MissingExtraError, build_balancer
from mtl_d2.balancing.gradient_build import _GRAMIAN_METHODS
from mtl_d2.testing import tiny_cfg

TASKS = ("instance", "edge")
NODE = "MODEL.MTL.BALANCER"
# g_1 = (1, 0) and g_2 = (-1, 1): they conflict, and one is longer.
GRADIENTS = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
GRAMIAN, LOSSES = GRADIENTS @ GRADIENTS.T, torch.ones(2, dtype=torch.float64)
MILD = torch.tensor([[1.0, -0.5], [-0.5, 1.25]], dtype=torch.float64)  # of (1, 0) and (-1/2, 1)
ROOT2, PHI = math.sqrt(2), (1 + math.sqrt(5)) / 2
BY_HAND = {
    # g_1 + g_2 / 2 and g_2 + g_1: each without what opposes the other one
    "pcgrad": (2.0, 1.5),
    "upgrad": (2.0, 1.5),
    # |a g_1 + (1 - a) g_2|^2 = a^2 - 2 a (1 - a) + 2 (1 - a)^2 is least at a = 3 / 5; times 2
    "mgda": (1.2, 0.8),
    # with c = 1/2 the worst task of the ball is the first: g_0 + |g_0| / 2 g_1 with g_0 = (0, 1/2); times 2
    "cagrad": (1.5, 1.0),
    # inv(G) (|g_1|, |g_2|) over its sum; times 2
    "imtl_g": (4 - 2 * ROOT2, 2 * ROOT2 - 2),
    # s inv(sqrt(G)) (1, 1) with the smallest singular value s = 1 / phi, inv(sqrt(G)) = [[3, 1], [1, 2]] / sqrt(5)
    "aligned_mtl": (4 / math.sqrt(5) / PHI, 3 / math.sqrt(5) / PHI),
}
METHODS = [*BY_HAND, "nash_mtl", "gradnorm"]


def build(name: str, tasks: tuple[str, ...] = TASKS, **options):
    cfg = tiny_cfg(tasks, **{f"{NODE}.NAME": name, f"{NODE}.CAGRAD.C": 0.5})
    cfg.merge_from_list([x for key, value in options.items() for x in (f"{NODE}.{key.replace('__', '.')}", value)])
    return build_balancer(cfg, tasks, ("instance", "sem_seg", "edge"))


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])  # those of gradients at features are as small as the first
@pytest.mark.parametrize("name", BY_HAND)
def test_two_conflicting_tasks_by_hand(name: str, scale: float) -> None:
    found = build(name).refresh(scale * GRAMIAN, LOSSES, TASKS)
    torch.testing.assert_close(found, torch.tensor(BY_HAND[name], dtype=torch.float64), rtol=2e-3, atol=2e-3)


def test_nash_by_hand() -> None:
    # a_1 (a_1 - a_2 / 2) = a_2 (5 a_2 / 4 - a_1 / 2) gives a_2 / a_1 = sqrt(4 / 5), and MAX_NORM 1 their size
    t = math.sqrt(0.8)
    expected = torch.tensor([1.0, t], dtype=torch.float64) / math.sqrt(2 - t)
    found = build("nash_mtl").refresh(MILD, LOSSES, TASKS)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["pcgrad", "upgrad", "mgda", "cagrad", "nash_mtl"])
def test_no_task_is_worse_off_by_the_weighted_gradient(name: str) -> None:
    long = torch.tensor([[1.0, 0.0], [-4.0, 1.0]], dtype=torch.float64)
    direction = build(name, CAGRAD__C=1.0).refresh(long @ long.T, LOSSES, TASKS) @ long
    assert (long @ direction >= -1e-3).all() and (long @ long.sum(0)).min() < 0


@pytest.mark.parametrize("name", METHODS)
def test_tasks_that_agree_are_summed_and_one_alone_has_weight_1(name: str) -> None:
    same = torch.full((2, 2), 0.25, dtype=torch.float64)
    if name not in ("cagrad", "nash_mtl"):  # which lengthen it
        torch.testing.assert_close(build(name).refresh(same, LOSSES, TASKS).sum().item(), 2.0, rtol=1e-3, atol=0)
    assert build(name).refresh(same[:1, :1], LOSSES[:1], TASKS[:1]).tolist() == [1.0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0])
def test_an_overflow_gives_plain_weights_and_is_forgotten(name: str, value: float) -> None:
    balancer = build(name)
    balancer.refresh(GRAMIAN, LOSSES, TASKS)
    before = {key: state.clone() for key, state in balancer.state_dict().items()}
    assert balancer.refresh(GRAMIAN * value, LOSSES, TASKS).tolist() == [1.0, 1.0]
    assert all(torch.equal(before[key], state) for key, state in balancer.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_a_task_without_a_gradient_does_not_hold_the_others_up(name: str) -> None:
    """As where a label ignores every pixel of all crops: the two others fare as if there were no such task."""
    three, two = ("instance", "sem_seg", "edge"), build(name)
    gradients = torch.stack([GRADIENTS[0], torch.zeros(2, dtype=torch.float64), GRADIENTS[1]])
    losses = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    balancer = build(name, three)
    before = {key: state.clone() for key, state in balancer.state_dict().items()}
    for _ in range(2):
        torch.manual_seed(3)
        weights = balancer.refresh(gradients @ gradients.T, losses, three)
        torch.manual_seed(3)
        expected = two.refresh(GRAMIAN, LOSSES, TASKS)
        assert weights[[0, 2]].tolist() == expected.tolist() and weights[1] == 1
    for key, state in balancer.state_dict().items():
        assert state[1] == before[key][1] and torch.equal(state[[0, 2]], two.state_dict()[key]), key


def test_nash_goes_on_from_its_last_solution_for_any_subset_of_tasks() -> None:
    balancer = build("nash_mtl", ("instance", "sem_seg", "edge"))
    balancer.refresh(MILD, LOSSES, ("instance", "edge"))
    a, b, c = balancer.last_solution.tolist()
    assert b == 1 and a != 1 and c != 1
    balancer.refresh(MILD, LOSSES, ("sem_seg", "edge"))
    assert balancer.last_solution[0] == a and balancer.last_solution[1] != 1


@pytest.mark.parametrize("name", METHODS)
def test_weights_that_are_loaded_belong_to_tasks_by_their_names(name: str) -> None:
    trained, fresh = build(name), build(name, ("edge", "sem_seg"))
    trained.stored.copy_(torch.tensor([0.5, 2.0]))
    fresh.load_state_dict(trained.state_dict())
    assert fresh.stored.tolist() == [2, 1]


def test_gradnorm_by_hand() -> None:
    balancer = GradNormBalancer({"instance": 1.0, "edge": 1.0}, asymmetry=1.0, lr=0.1)
    gramian = torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64))
    assert balancer.refresh(gramian, torch.tensor([2.0, 4.0], dtype=torch.float64), TASKS).tolist() == [1, 1]
    # n = (1, 3), m = 2, both ratios 1: slopes (-1/2, 3/2), so 1.05 and 0.85, scaled to a sum of 2
    expected = torch.tensor([1.05, 0.85], dtype=torch.float64) * 2 / 1.9
    torch.testing.assert_close(balancer.weights, expected)
    found = balancer.refresh(gramian, torch.tensor([2.0, 1.0], dtype=torch.float64), TASKS)
    torch.testing.assert_close(found, expected)
    # L / L(0) = (1, 1/4), r = (8/5, 2/5): task 1 (1.105) is below 1.6 m, task 2 (2.684) above 0.4 m, m = 1.895
    m = (expected * torch.tensor([1.0, 3.0])).mean()
    moved = expected + 0.1 * torch.tensor([1.0, -3.0]) / m
    torch.testing.assert_close(balancer.weights, moved * 2 / moved.sum())


def test_the_asymmetry_of_gradnorm_is_an_exponent_by_hand() -> None:
    balancer = GradNormBalancer({"instance": 1.0, "edge": 1.0}, asymmetry=2.0, lr=0.1)
    gramian = torch.diag(torch.tensor([9.0, 4.0], dtype=torch.float64))
    balancer.first_losses.fill_(1.0)
    # n = (3, 2), m = 5/2, r = (8/7, 6/7): 3 is above m r = 20/7 and below m r^2 = 160/49, 2 below 15/7 and above 90/49
    balancer.refresh(gramian, torch.tensor([4.0, 3.0], dtype=torch.float64), TASKS)
    moved = torch.tensor([1 + 0.1 * 3 / 2.5, 1 - 0.1 * 2 / 2.5], dtype=torch.float64)
    torch.testing.assert_close(balancer.weights, moved * 2 / moved.sum())


def test_gradnorm_keeps_the_sum_and_an_absent_task() -> None:
    balancer = GradNormBalancer(dict.fromkeys(("instance", "sem_seg", "edge"), 1.0))
    for step in range(5):
        balancer.refresh(GRAMIAN * 2.0**step, LOSSES * (1 + step), TASKS)
    assert balancer.weights[1] == 1 and balancer.first_losses[1] == 0
    assert balancer.weights.sum().item() == pytest.approx(3)
    assert balancer.weights[0] > 1 > balancer.weights[2]


class ThreeTasks(nn.Module):
    """A shared layer, and a head for each of three tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 6)
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(3))


@pytest.mark.parametrize("name", METHODS[:-1])
def test_equals_torchjd_on_the_full_jacobian(name: str) -> None:
    from torchjd import aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    torch.manual_seed(1)
    network, x = ThreeTasks().double(), torch.randn(5, 4, dtype=torch.float64)
    features = network.trunk(x).tanh()
    losses = [s * (head(features) - s).square().mean() for s, head in zip((1.0, 2.0, 0.5), network.heads, strict=True)]
    shared = list(network.trunk.parameters())
    rows = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)]) for loss in losses]
    jacobian = torch.stack(rows)

    tasks = ("instance", "sem_seg", "edge")
    torch.manual_seed(3)
    balancer = build(name, tasks)
    found = balancer.refresh(jacobian @ jacobian.T, torch.stack(losses).detach(), tasks) @ jacobian

    aggregator = {
        "pcgrad": aggregation.PCGrad,
        "mgda": aggregation.MGDA,
        "cagrad": lambda: aggregation.CAGrad(c=0.5),
        "imtl_g": aggregation.IMTLG,
        "nash_mtl": lambda: aggregation.NashMTL(n_tasks=3),
        "aligned_mtl": aggregation.AlignedMTL,
        "upgrad": aggregation.UPGrad,
    }[name]()
    mtl_backward(losses, features=[features])
    torch.manual_seed(3)
    jac_to_grad(shared, aggregator)
    expected = torch.cat([p.grad.flatten() for p in shared])
    factor = 3 if getattr(balancer, "gives_mean", False) else 1  # a mean becomes a sum
    torch.testing.assert_close(found, factor * expected, rtol=1e-5, atol=1e-7)


def test_a_plain_trainer_is_told_what_it_needs() -> None:
    with pytest.raises(RuntimeError, match=r"GramianBalancer weighs gradients, .*MultiTaskTrainer"):
        build("upgrad")({}, ())


@pytest.mark.parametrize("name", METHODS[:-1])
def test_a_missing_extra_is_named_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ImportError, match=rf"NAME is '{name}', .* pip install 'mtl_d2\[balance\]'"):
        build(name)


@pytest.mark.parametrize("name", METHODS[:-1])
def test_extras_of_an_extra_and_other_releases_of_it_are_named_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchjd import aggregation

    def lacks(*args, **kwargs):
        raise ImportError("no solver")

    kind = "NashMTL" if name == "nash_mtl" else _GRAMIAN_METHODS[name][0]
    monkeypatch.setattr(aggregation, kind, lacks)
    with pytest.raises(MissingExtraError, match=rf"NAME is '{name}', .* pip install .*; found: no solver"):
        build(name)
    monkeypatch.delattr(aggregation, kind)
    with pytest.raises(MissingExtraError, match=rf"NAME is '{name}', .* pip install .*; found: .*{kind}"):
        build(name)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("upgrad", "GRADIENT.CUT", "heads", r"GRADIENT.CUT is 'heads': expected one of \['features', 'parameters'\]"),
        ("upgrad", "GRADIENT.PERIOD", -1, "GRADIENT.PERIOD is -1: expected 0 or more"),
        ("upgrad", "WEIGHTS.edge", -0.5, "WEIGHTS.edge is -0.5"),
        ("cagrad", "CAGRAD.C", -1.0, "CAGRAD: c must be non-negative"),
        ("gradnorm", "GRADNORM.LR", 0.0, "GRADNORM.LR is 0.0: expected a finite number above 0"),
        ("gradnorm", "GRADNORM.ASYMMETRY", -1.0, "GRADNORM.ASYMMETRY is -1.0"),
    ],
)
def test_options_out_of_their_range_are_refused_by_their_key(name: str, key: str, value, message: str) -> None:
    with pytest.raises(ValueError, match=rf"{NODE}.{message}"):
        build(name, **{key.replace(".", "__"): value})
