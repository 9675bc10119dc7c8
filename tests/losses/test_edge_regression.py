"""Edge regression: the worked case by hand, both readings of g, gradients, and what is ignored."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mtl_d2.losses import (
    PREDICTED_EDGES,
    edge_consistency,
    edge_regression_loss,
    edge_weighted_smoothness,
    squared_edge_error,
    structure_edges,
    total_variation_edges,
)

IGNORE = 255
READINGS = sorted(PREDICTED_EDGES)


def hard(*rows: list[int], classes: int = 2) -> Tensor:
    """Probabilities (1, K, H, W) of pixels of known class."""
    return torch.nn.functional.one_hot(torch.tensor(rows), classes).movedim(-1, 0)[None].float()


def labels(*rows: list[int]) -> Tensor:
    return torch.tensor([rows])


def random_batch(images: int = 2, classes: int = 3, size: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, size, size, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 4, (images, size, size), generator=generator)
    return logits, torch.tensor([0, 0, 1, IGNORE])[targets]


class TestWorkedCase:
    """Two classes, one row P_1 = 0 0 1 1 with its edge at the second pixel."""

    probs, targets = hard([0, 0, 1, 1]), labels([0, 1, 0, 0])

    @pytest.mark.parametrize("reading", READINGS)
    def test_the_predicted_edge_is_the_true_one(self, reading: str) -> None:
        g = PREDICTED_EDGES[reading](self.probs, self.targets)
        assert g.tolist() == [[[0, 1, 0, 0]]]
        assert squared_edge_error(g, self.targets) == 0

    @pytest.mark.parametrize("beta", [0.0, 1.5])
    @pytest.mark.parametrize("turned", [False, True])
    def test_the_quadratic_term_has_one_of_three_pairs_at_the_weight_of_an_edge(
        self, beta: float, turned: bool
    ) -> None:
        probs, targets = (x.mT if turned else x for x in (self.probs, self.targets))  # a column in the place of a row
        found = edge_weighted_smoothness(probs, targets, beta=beta)
        assert found.item() == pytest.approx(math.exp(-beta) / 3 * 2)

    def test_of_two_rows_all_ten_pairs_count_those_at_the_edge_by_its_weight(self) -> None:
        probs, targets = (x.repeat_interleave(2, dim=-2) for x in (self.probs, self.targets))
        found = edge_weighted_smoothness(probs, targets, beta=1.5)  # the four vertical pairs differ in nothing
        assert found.item() == pytest.approx(2 * math.exp(-1.5) / 10 * 2)

    def test_the_loss_is_half_lambda_times_it(self) -> None:
        logits = (self.probs * 2 - 1) * 50
        found = edge_regression_loss(logits, self.targets, smoothness=0.4, beta=1.0)
        assert found.item() == pytest.approx(0.4 / 2 * math.exp(-1) / 3 * 2)

    def test_an_edge_that_is_not_there_costs_a_half_over_the_pixels(self) -> None:
        logits = (self.probs * 2 - 1) * 50
        found = edge_regression_loss(logits, torch.zeros_like(self.targets), smoothness=0.0)
        assert found.item() == pytest.approx(0.5 / 4)


def test_the_larger_of_the_two_directions_counts() -> None:
    probs = torch.tensor([[[[0.9, 0.7], [0.4, 0.4]]]])
    probs = torch.cat([probs, 1 - probs], 1)
    found = structure_edges(probs, torch.zeros(1, 2, 2, dtype=torch.long))
    torch.testing.assert_close(found, torch.tensor([[[0.5, 0.3], [0.0, 0.0]]]))


def test_a_third_class_elsewhere_weakens_the_mean_over_structures_alone() -> None:
    probs, targets = hard([0, 1, 1, 2], classes=4), labels([1, 0, 1, 0])
    torch.testing.assert_close(structure_edges(probs, targets), torch.tensor([[[2 / 3, 0, 2 / 3, 0]]]))
    assert total_variation_edges(probs, targets).tolist() == [[[1, 0, 1, 0]]]


def test_with_two_classes_the_readings_are_one() -> None:
    logits, targets = random_batch(classes=2, size=6)
    probs = logits.softmax(1)
    torch.testing.assert_close(structure_edges(probs, targets), total_variation_edges(probs, targets))


@pytest.mark.parametrize("reading", READINGS)
def test_predicted_edges_are_in_0_1_and_at_no_border(reading: str) -> None:
    logits, _ = random_batch(classes=5, size=16)
    targets = torch.zeros(2, 16, 16, dtype=torch.long)
    g = PREDICTED_EDGES[reading]((20 * logits).softmax(1), targets)
    assert g.min() >= 0 and g.max() <= 1
    assert g[:, -1, -1].abs().max() == 0


@pytest.mark.parametrize("reading", READINGS)
def test_a_pair_with_an_ignored_pixel_takes_no_part(reading: str) -> None:
    probs, targets = hard([0, 1, 1, 0]), labels([0, IGNORE, 0, 1])
    g = PREDICTED_EDGES[reading](probs, targets)
    assert g.tolist() == [[[0, 0, 1, 0]]]
    assert squared_edge_error(g, targets).item() == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert edge_weighted_smoothness(probs, targets, beta=1.0).item() == pytest.approx(2 * math.exp(-1))


def of_edges(reading: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, targets: edge_regression_loss(logits, targets, smoothness=0.5, beta=1.0, edges=reading)


@pytest.mark.parametrize("reading", READINGS)
def test_the_gradient_is_right(reading: str) -> None:
    logits, targets = random_batch()  # random points are off the kinks of max and abs
    assert torch.autograd.gradcheck(lambda x: of_edges(reading)(x, targets), logits.requires_grad_())


def test_the_gradient_of_consistency_is_right_on_both_sides() -> None:
    generator = torch.Generator().manual_seed(0)
    g, q = (torch.rand(2, 3, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    targets = random_batch(size=3)[1]
    assert torch.autograd.gradcheck(lambda a, b: edge_consistency(a, b, targets), (g, q))
    assert edge_consistency(g, g, targets) == 0


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("images", [0, 2])
def test_nothing_valid_is_zero_with_a_gradient(reading: str, images: int) -> None:
    logits = torch.full((images, 3, 4, 5), math.inf, requires_grad=True)
    loss = of_edges(reading)(logits, torch.full((images, 4, 5), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (3, 5)])
def test_any_size_has_a_finite_loss(size: tuple[int, int]) -> None:
    logits = torch.randn(1, 3, *size, requires_grad=True)
    loss = of_edges("structures")(logits, torch.zeros(1, *size, dtype=torch.long))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("reading", READINGS)
def test_what_is_ignored_changes_neither_value_nor_gradient(reading: str) -> None:
    logits, targets = random_batch(images=3)
    targets[1] = IGNORE
    spoilt = logits.masked_fill((targets == IGNORE).unsqueeze(1), math.inf).requires_grad_()
    alone = logits[[0, 2]].clone().requires_grad_()
    loss, reference = of_edges(reading)(spoilt, targets), of_edges(reading)(alone, targets[[0, 2]])
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(spoilt.grad[[0, 2]], alone.grad)
    assert spoilt.grad[1].abs().max() == 0


def test_descent_moves_the_boundary_of_the_classes_to_the_edge() -> None:
    targets = torch.zeros(1, 6, 8, dtype=torch.long)
    targets[:, :, 4] = 1
    logits = torch.zeros(1, 2, 6, 8)
    logits[:, 1] = torch.linspace(-1, 1, 8)  # undecided in the middle
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        edge_regression_loss(logits, targets, smoothness=0.1, beta=5.0).backward()
        optimizer.step()
    probs = logits.detach().softmax(1)[0, 1]
    assert (probs[:, :5] < 0.2).all() and (probs[:, 5:] > 0.8).all()


def test_bfloat16_is_summed_in_float32() -> None:
    logits, targets = random_batch(size=64)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = edge_regression_loss(half, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(edge_regression_loss(half.float(), targets).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothness": -1.0}, "smoothness is -1.0, expected a finite number of at least 0"),
        ({"beta": math.nan}, "beta is nan, expected a finite number"),
        ({"edges": "canny"}, "edges is 'canny', expected one of structures, total_variation"),
    ],
)
def test_an_argument_out_of_its_range_is_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edge_regression_loss(*random_batch(), **options)


def test_other_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\) and targets \(2, 4, 5\)"):
        edge_regression_loss(random_batch()[0], torch.zeros(2, 4, 5))
