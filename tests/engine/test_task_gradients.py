"""The step that weighs gradients: against plain backward passes, at both cuts, with pooled levels and shared heads."""

import copy
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.utils.events import EventStorage
from torch import nn

from mtl_d2.balancing import FixedBalancer, GramianBalancer
from mtl_d2.engine.cosines import feature_cosines
from mtl_d2.engine.feature_cut import FeatureCut
from mtl_d2.engine.gradients import build_gradients
from mtl_d2.engine.precision import Precision
from mtl_d2.engine.task_step import TaskStep, total
from mtl_d2.testing import ALL_TASKS, random_batched_inputs, tiny_cfg

from .toy import ToyTrunk, labelled_images, multitask_network

WEIGHTS = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
PRIOR = {"instance": 2.0, "sem_seg": 1.0, "edge": 0.25}


def gradients_of(network: nn.Module, batch: list[dict], iteration: int = 0, **options) -> dict[str, torch.Tensor]:
    network.zero_grad()
    with EventStorage():
        build_gradients(network, Precision(None, "cpu"), 5, **options)(batch, iteration)
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def alone(network: nn.Module, batch: list[dict], **options) -> Mapping[str, dict[str, torch.Tensor]]:
    """Of each task, the gradients of its loss alone."""
    found = {}
    for task in ALL_TASKS:
        network.balancer = FixedBalancer({t: float(t == task) for t in ALL_TASKS})
        found[task] = gradients_of(network, batch, **options)
    return found


def with_weighting(network: nn.Module, weigh: Callable, prior: Mapping[str, float], **options) -> nn.Module:
    network = copy.deepcopy(network)
    network.balancer = GramianBalancer(prior, weigh, gives_mean=False, **options)
    return network


def with_weights(network: nn.Module, weights: torch.Tensor, **options) -> nn.Module:
    return with_weighting(network, lambda gramian: weights, dict.fromkeys(network.branches, 1.0), **options)


@pytest.mark.parametrize("options", [{"cut": "features"}, {"cut": "parameters", "period": 1}], ids=lambda o: o["cut"])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_trunk_has_the_weighted_sum_and_heads_their_own_gradient(options: dict, parts: int) -> None:
    plain = multitask_network(FixedBalancer(dict.fromkeys(ALL_TASKS, 1.0)))
    batch = labelled_images(0, 0, size=4)
    single = alone(plain, batch, parts=parts)
    found = gradients_of(with_weights(plain, WEIGHTS, **options), batch, parts=parts)
    assert_weighted(found, single)


def assert_weighted(found: Mapping[str, torch.Tensor], single: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    for name, gradient in found.items():
        weights = WEIGHTS.float() if name.startswith("backbone") else torch.ones(3)
        expected = sum(w * g[name] for w, g in zip(weights, single.values(), strict=True))
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cut", ["features", "parameters"])
@pytest.mark.parametrize("parts", [1, 2])
def test_between_refreshes_too_the_trunk_has_the_weighted_sum(cut: str, parts: int) -> None:
    plain = multitask_network(FixedBalancer(dict.fromkeys(ALL_TASKS, 1.0)))
    batch = labelled_images(1, 0, size=4)
    single = alone(plain, batch, iteration=1, parts=parts)
    network = with_weights(plain, WEIGHTS, cut=cut, period=2)
    gradients_of(network, labelled_images(0, 0, size=4), parts=parts)  # the refresh
    assert_weighted(gradients_of(network, batch, iteration=1, parts=parts), single)


class OffsetTrunk(ToyTrunk):
    """Adds a parameter to every value of the features of four images: its gradient is theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.offset2 = nn.Parameter(torch.zeros(4, 4, 8, 8))
        self.offset3 = nn.Parameter(torch.zeros(4, 4, 4, 4))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = super().forward(x)
        return {"p2": features["p2"] + self.offset2, "p3": features["p3"] + self.offset3}


@pytest.mark.parametrize(("cut", "parts"), [("features", 1), ("parameters", 1), ("parameters", 2)])
def test_a_method_gets_the_gramian_of_alpha_times_each_loss_but_for_its_scale(cut: str, parts: int) -> None:
    trunk = OffsetTrunk() if cut == "features" else ToyTrunk()
    plain = multitask_network(FixedBalancer(dict.fromkeys(ALL_TASKS, 1.0)), trunk)
    batch = labelled_images(0, 0, size=4)
    single = alone(plain, batch, parts=parts)
    shared = [n for n in single["edge"] if n.startswith("backbone.offset" if cut == "features" else "backbone")]
    rows = [torch.cat([PRIOR[task] * g[name].flatten() for name in shared]) for task, g in single.items()]
    jacobian = torch.stack(rows).double()
    seen: list[torch.Tensor] = []

    def weigh(gramian: torch.Tensor) -> torch.Tensor:
        seen.append(gramian)
        return WEIGHTS

    network = with_weighting(plain, weigh, PRIOR, cut=cut, period=1)
    found = gradients_of(network, batch, parts=parts)
    (gramian,) = seen
    assert len(shared) >= 2
    expected = jacobian @ jacobian.T
    torch.testing.assert_close(gramian, expected / expected.diagonal().mean(), rtol=1e-4, atol=1e-7)
    for task, gradients in single.items():  # a head has alpha times its own, the trunk the weighted sum of such
        name = f"{task}_head.weight"
        torch.testing.assert_close(found[name], PRIOR[task] * gradients[name], rtol=1e-4, atol=1e-7)
    expected = WEIGHTS @ jacobian
    torch.testing.assert_close(torch.cat([found[n].flatten() for n in shared]).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "refreshes"),
    [
        ({"cut": "features"}, [0, 1, 2, 3, 4]),
        ({"cut": "features", "period": 2}, [0, 2, 4]),
        ({"cut": "parameters"}, [0, 4]),
        ({"cut": "parameters", "period": 3}, [0, 3]),
    ],
)
def test_a_method_is_asked_once_in_a_period_and_its_weights_hold_until_then(
    options: dict, refreshes: Sequence[int]
) -> None:
    plain = multitask_network(FixedBalancer(dict.fromkeys(ALL_TASKS, 1.0)))
    batch, asked, iteration = labelled_images(0, 0), [], 0

    def weigh(gramian: torch.Tensor) -> torch.Tensor:
        asked.append(iteration)
        return WEIGHTS / (1 + iteration)

    network = with_weighting(plain, weigh, dict.fromkeys(ALL_TASKS, 1.0), **options)
    step = build_gradients(network, Precision(None, "cpu"), 5)
    weights = []
    for iteration in range(5):
        with EventStorage():
            network.zero_grad()
            weights.append(step(batch, iteration).others["balance/edge"])
    assert asked == list(refreshes)
    last = [max(i for i in refreshes if i <= iteration) for iteration in range(5)]
    assert [float(w) for w in weights] == pytest.approx([3.0 / (1 + i) for i in last])


@pytest.mark.parametrize("cut", ["features", "parameters"])
def test_the_joint_network_with_equal_weights_has_the_gradients_of_the_plain_sum(cut: str) -> None:
    torch.manual_seed(0)
    plain = build_model(tiny_cfg())
    batch = random_batched_inputs(2, tasks=[("instance", "sem_seg"), ("sem_seg", "edge")])
    expected = gradients_of(plain, batch)
    found = gradients_of(with_weights(plain, torch.ones(3, dtype=torch.float64), cut=cut, period=1), batch)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name


def test_a_head_that_two_tasks_reach_has_the_sum_of_their_gradients() -> None:
    plain = multitask_network(FixedBalancer(dict.fromkeys(ALL_TASKS, 1.0)))
    plain.branches["edge"].head = plain.instance_head
    batch = labelled_images(0, 0)
    expected = gradients_of(plain, batch)
    found = gradients_of(with_weights(plain, torch.ones(3, dtype=torch.float64)), batch)
    torch.testing.assert_close(found["instance_head.weight"], expected["instance_head.weight"], rtol=1e-5, atol=1e-7)


class PooledTrunk(ToyTrunk):
    def __init__(self) -> None:
        super().__init__()
        self.top_block = LastLevelMaxPool()
        self.top_block.in_feature = "p3"

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = super().forward(x)
        return {**features, "p4": self.top_block(features["p3"])[0]}


def test_a_pooled_level_counts_for_the_level_that_it_comes_from() -> None:
    torch.manual_seed(0)
    trunk = PooledTrunk()
    features = trunk(torch.randn(2, 3, 8, 8))
    cut = FeatureCut(features, trunk)
    assert set(cut.leaves) == {"p2", "p3"}
    for task, level in (("instance", "p4"), ("edge", "p3")):
        cut.features()[level].sum().backward()
        cut.take_row(task)
    sizes = features["p4"].numel(), features["p3"].numel()
    assert cut.gramian(["instance", "edge"]).tolist() == [[sizes[0], sizes[0]], [sizes[0], sizes[1]]]


def test_the_cosine_is_that_of_the_gradients_of_the_features() -> None:
    network = multitask_network(FixedBalancer(dict.fromkeys(ALL_TASKS, 1.0)))
    step = TaskStep.of(build_gradients(network, Precision(None, "cpu"), 5), labelled_images(0, 0), 0)
    found = feature_cosines(step)
    assert all(p.grad is None for p in network.parameters())
    step.gradients.seed_part(0, 0)
    features, losses, _ = network.forward_tasks(step.parts[0], step.scales)
    rows = {}
    for task in ("sem_seg", "edge"):
        rows[task] = torch.autograd.grad(total(losses[task]), features["p3"], retain_graph=True)[0].flatten()
    p2 = torch.autograd.grad(total(losses["sem_seg"]), features["p2"])[0].norm()
    a, b = rows["sem_seg"], rows["edge"]
    expected = a @ b / ((a.norm() ** 2 + p2**2).sqrt() * b.norm())
    torch.testing.assert_close(found["cosine/sem_seg/edge"], expected)
    assert found["cosine/instance/edge"] == 0  # they read different levels


class NormedTrunk(ToyTrunk):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(self.norm(x))


@pytest.mark.parametrize(("name", "cosine_period"), [("fixed", 1), ("famo", 0), ("famo", 1)])
def test_extra_forward_passes_leave_running_statistics_alone(name: str, cosine_period: int) -> None:
    from .test_every_balancer import make_balancer

    statistics = []
    for balancer, period in ((make_balancer("fixed"), 0), (make_balancer(name), cosine_period)):
        network = multitask_network(balancer, NormedTrunk())
        with EventStorage():
            gradients = build_gradients(network, Precision(None, "cpu"), 5, cosine_period=period)
            gradients(labelled_images(0, 0), 0)
            gradients.after_update()
        statistics.append(network.backbone.norm.running_mean.clone())
    assert torch.equal(*statistics) and statistics[0].any()
