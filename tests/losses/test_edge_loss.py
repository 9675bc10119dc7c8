"""Edge losses: values by hand, images apart from each other, and nothing labelled."""

import math

import pytest
import torch
import torch.nn.functional as F

from mtl_d2.losses import EDGE_LOSSES, edge_focal_loss, edge_loss, fixed_weight_loss

KINDS = sorted(EDGE_LOSSES)
IGNORE = 255


def row(*values: float) -> torch.Tensor:
    """An image of one row, as a batch of one."""
    return torch.tensor([[values]])


def random_batch(images: int = 3, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, size, size, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 4, (images, size, size), generator=generator)
    return logits, targets.clamp(max=2).where(targets < 2, torch.tensor([0, 0, 0, IGNORE])[targets])


# One edge pixel, three others, one ignored; every logit 0, so that p = 1/2 and -log p = log 2.
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hed", (0.75 * 1 + 0.25 * 3) * math.log(2) / 4),
        ("rcf", (0.75 * 1 + 1.1 * 0.25 * 3) * math.log(2) / 4),
        ("fixed", (0.95 * 1 + 0.05 * 3) * math.log(2) / 4),
        ("focal", (0.25 * 1 + 0.75 * 3) * 0.25 * math.log(2) / 4),
        ("dice", 1 - 2 * 0.5 / (4 * 0.25 + 1)),
    ],
)
def test_the_value_is_the_one_computed_by_hand(kind, expected):
    loss = edge_loss(torch.zeros(1, 1, 5), row(1, 0, 0, 0, IGNORE).long(), kind)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_map_costs_nothing(kind):
    targets = row(0, 1, 0, 0).long()
    assert edge_loss((targets * 2.0 - 1) * 50, targets, kind).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["hed", "rcf", "dice"])
def test_an_image_without_an_edge_is_zero_with_a_gradient(kind):
    logits = torch.randn(2, 4, 4, requires_grad=True)
    loss = edge_loss(logits, torch.zeros(2, 4, 4, dtype=torch.long), kind)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and logits.grad.abs().max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_edges_alone_is_finite(kind):
    assert edge_loss(torch.randn(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.long), kind).isfinite()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [0, 2])
def test_nothing_valid_is_zero_with_a_gradient(kind, images):
    logits = torch.full((images, 4, 4), math.inf, requires_grad=True)
    loss = edge_loss(logits, torch.full((images, 4, 4), IGNORE), kind)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unlabelled_image_changes_neither_value_nor_gradient(kind):
    logits, targets = random_batch()
    targets[1] = IGNORE
    together = logits.clone().requires_grad_()
    alone = logits[[0, 2]].clone().requires_grad_()
    loss, reference = edge_loss(together, targets, kind), edge_loss(alone, targets[[0, 2]], kind)
    loss.backward()
    reference.backward()
    assert torch.allclose(loss, reference, rtol=1e-6)
    assert torch.allclose(together.grad[[0, 2]], alone.grad, rtol=1e-6)
    assert together.grad[1].abs().max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_images_does_not_matter(kind):
    logits, targets = random_batch()
    loss, permuted = edge_loss(logits, targets, kind), edge_loss(logits[[2, 0, 1]], targets[[2, 0, 1]], kind)
    assert torch.allclose(loss, permuted, rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "focal"])  # fvcore's is float32 alone
def test_the_gradient_is_right(kind):
    logits, targets = random_batch(images=2, size=3)
    assert torch.autograd.gradcheck(lambda x: edge_loss(x, targets, kind), logits.requires_grad_())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_logits_are_summed_in_float32(kind):
    logits, targets = random_batch(images=1, size=64)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = edge_loss(half, targets, kind)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(edge_loss(half.float(), targets, kind).item(), rel=1e-6)


def test_equal_weights_make_half_the_binary_cross_entropy():
    logits, targets = random_batch(images=1)
    valid = targets != IGNORE
    expected = F.binary_cross_entropy_with_logits(logits[valid], targets[valid].double()) / 2
    assert torch.allclose(fixed_weight_loss(logits, targets, positive_weight=0.5), expected)
    assert torch.allclose(edge_focal_loss(logits, targets, alpha=0.5, gamma=0).double(), expected)


def test_an_unknown_kind_is_an_error_that_names_the_known():
    with pytest.raises(ValueError, match="'canny'.*hed, rcf, fixed, focal, dice"):
        edge_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), "canny")


def test_different_shapes_are_an_error():
    with pytest.raises(ValueError, match=r"\(1, 1, 2, 2\)"):
        edge_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2), "hed")
