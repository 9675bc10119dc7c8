"""Edge losses: values by hand, images apart from each other, and nothing labelled."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mtl_d2.losses import EDGE_LOSSES, edge_focal_loss, edge_loss, edge_rank_loss, fixed_weight_loss
from tests.tensor_memory import LargestTensor, kept_for_backward

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
        # Of the window's probability of 4 / 2 one quarter is on the edge; no pixel is far from it.
        ("tracing", (0.75 * 1 + 1.1 * 0.25 * 3) * math.log(2) / 4 + 4 * math.log(4) / 4),
        # Each of the three others is above the edge by one half: rank 1 + 1.5.
        ("rank", 1.5 / 2.5),
    ],
)
def test_the_value_is_the_one_computed_by_hand(kind, expected):
    loss = edge_loss(torch.zeros(1, 1, 5), row(1, 0, 0, 0, IGNORE).long(), kind)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_map_costs_nothing(kind):
    targets = row(0, 1, 0, 0).long()
    assert edge_loss((targets * 2.0 - 1) * 50, targets, kind).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_has_the_mean_of_its_images_whatever_their_shares_of_edges(kind):
    logits, targets = random_batch()
    targets[0] = (targets[0] == 1).long()
    targets[1] = 0
    targets[1, 2, 3:5] = 1
    targets[2] = 0  # no edge
    alone = [edge_loss(logits[i : i + 1], targets[i : i + 1], kind) for i in range(3)]
    assert alone[0].item() != pytest.approx(alone[1].item(), rel=1e-2)
    torch.testing.assert_close(edge_loss(logits, targets, kind), torch.stack(alone).mean())


@pytest.mark.parametrize("kind", ["hed", "rcf", "dice", "tracing", "rank"])
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
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_ignored_may_be_inf_or_nan(kind, value):
    logits, targets = random_batch()
    broken = logits.masked_fill(targets == IGNORE, value).requires_grad_()
    logits.requires_grad_()
    loss, reference = edge_loss(broken, targets, kind), edge_loss(logits, targets, kind)
    loss.backward()
    reference.backward()
    assert loss == reference and torch.equal(broken.grad, logits.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_the_mean_over_images_not_at_all(kind):
    logits, targets = random_batch(images=1)
    padded = F.pad(logits, (0, 5, 0, 3), value=7.0), F.pad(targets, (0, 5, 0, 3), value=IGNORE)
    assert torch.allclose(edge_loss(*padded, kind), edge_loss(logits, targets, kind), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_bounded_as_the_docstrings_say(kind):
    size = 64
    kept_maps = {"focal": 9, "tracing": 17, "rank": 3}.get(kind, 4)
    logits = torch.randn(2, size, size, requires_grad=True)
    targets = torch.randint(0, 2, (2, size, size))
    targets[:, :8] = IGNORE
    loss = partial(edge_rank_loss, pixels=16) if kind == "rank" else EDGE_LOSSES[kind]
    with LargestTensor() as largest, kept_for_backward() as kept:
        loss(logits, targets).backward()
    pairs = 2 * 10 * 16**2 * 4 if kind == "rank" else 0
    assert largest.bytes <= logits.nbytes
    assert sum(kept.values()) <= kept_maps * logits.nbytes + pairs + 512  # a few numbers an image


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
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(kind, dtype):
    logits, targets = random_batch(images=1, size=64)
    half = logits.to(dtype)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype):
        loss = edge_loss(half, targets, kind)
    torch.manual_seed(0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(edge_loss(half.float(), targets, kind).item(), rel=1e-6)


def test_equal_weights_make_half_the_binary_cross_entropy():
    logits, targets = random_batch(images=1)
    valid = targets != IGNORE
    expected = F.binary_cross_entropy_with_logits(logits[valid], targets[valid].double()) / 2
    assert torch.allclose(fixed_weight_loss(logits, targets, positive_weight=0.5), expected)
    assert torch.allclose(edge_focal_loss(logits, targets, alpha=0.5, gamma=0).double(), expected)


def test_an_unknown_kind_is_an_error_that_names_the_known():
    with pytest.raises(ValueError, match="'canny'.*hed, rcf, fixed, focal, dice, tracing, rank"):
        edge_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), "canny")


def test_different_shapes_are_an_error():
    with pytest.raises(ValueError, match=r"\(1, 1, 2, 2\)"):
        edge_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2), "hed")
