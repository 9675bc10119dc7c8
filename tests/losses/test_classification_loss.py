"""Losses of multi-label classification: values by hand, unknown labels, gradients."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mtl_d2.losses import asymmetric_loss, multi_label_bce_loss, multi_label_focal_loss

UNKNOWN = -1
LOSSES = [multi_label_bce_loss, multi_label_focal_loss, asymmetric_loss, partial(asymmetric_loss, gamma_neg=0.5)]
SLOW_FOCUS = partial(multi_label_focal_loss, gamma=0.5)  # whose slope is infinite at a saturated sigmoid


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def batch(images: int = 5, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(-1, 2, (images, classes), generator=generator).float()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("images", [0, 2])
def test_nothing_known_is_zero_with_a_gradient(loss, images):
    logits = torch.full((images, 3), math.inf, requires_grad=True)
    value = loss(logits, torch.full((images, 3), float(UNKNOWN)))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_the_mean_over_the_known_labels(loss):
    logits, targets = batch()
    known = targets >= 0
    assert 0 < known.sum() < known.numel()
    single = [loss(x[None, None], t[None, None]) for x, t in zip(logits[known], targets[known], strict=True)]
    assert torch.allclose(loss(logits, targets), torch.stack(single).mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_class_weights_make_a_weighted_mean(loss):
    logits, targets = batch()
    weight = torch.tensor([2.0, 0.0, 1.0])
    known = targets >= 0
    single = torch.stack([loss(x[None, None], t[None, None]) for x, t in zip(logits[known], targets[known])])  # noqa: B905
    share = weight.expand_as(targets)[known].double()
    expected = (single.double() * share).sum() / share.sum()
    assert torch.allclose(loss(logits, targets, weight=weight).double(), expected)
    with pytest.raises(ValueError, match=r"weight has shape \(2,\), expected \(3,\)"):
        loss(logits, targets, weight=weight[:2])


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss is not multi_label_focal_loss])
def test_the_gradient_is_right(loss):
    logits, targets = batch()
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits.requires_grad_())


@pytest.mark.parametrize("gamma", [2.0, 1.0, 0.5])
def test_the_focal_gradient_is_that_of_the_formula(gamma):  # in float32, which gradcheck cannot take
    logits, targets = batch()
    logits.requires_grad_()
    p_t = torch.where(targets == 1, logits.sigmoid(), 1 - logits.sigmoid())
    alpha = torch.where(targets == 1, 0.25, 0.75)
    expected = torch.autograd.grad((-alpha * (1 - p_t) ** gamma * p_t.log())[targets >= 0].mean(), logits)[0]
    found = torch.autograd.grad(multi_label_focal_loss(logits, targets, gamma=gamma), logits)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", [*LOSSES, SLOW_FOCUS])
def test_extreme_and_half_precision_logits_are_finite_in_float32(loss):
    logits = torch.tensor([[500.0, -500], [500, -500]], dtype=torch.bfloat16, requires_grad=True)
    value = loss(logits, torch.tensor([[1.0, 0], [0, 1]]))
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and logits.grad is not None
    assert logits.grad.isfinite().all()


def test_focal_and_asymmetric_loss_reduce_to_bce():
    logits, targets = batch()
    known = targets >= 0
    expected = F.binary_cross_entropy_with_logits(logits[known], targets[known].double())
    assert torch.allclose(multi_label_bce_loss(logits, targets), expected)
    assert torch.allclose(multi_label_focal_loss(logits, targets, alpha=-1, gamma=0).double(), expected)
    assert torch.allclose(asymmetric_loss(logits, targets, gamma_neg=0, shift=0), expected)


def test_values_by_hand():
    logits, targets = torch.tensor([[logit(0.8), logit(0.3)]]), torch.tensor([[1.0, 0.0]])
    bce = -(math.log(0.8) + math.log(0.7)) / 2
    assert multi_label_bce_loss(logits, targets).item() == pytest.approx(bce)
    focal = -(0.25 * 0.2**2 * math.log(0.8) + 0.75 * 0.3**2 * math.log(0.7)) / 2
    assert multi_label_focal_loss(logits, targets).item() == pytest.approx(focal)
    # p_m = 0.3 - 0.1 = 0.2, so that the negative costs 0.2^2 * -log(1 - 0.2)
    expected = -(0.2 * math.log(0.8) + 0.2**2 * math.log(0.8)) / 2
    found = asymmetric_loss(logits, targets, gamma_pos=1, gamma_neg=2, shift=0.1)
    assert found.item() == pytest.approx(expected)


def test_a_negative_below_the_shift_costs_nothing():
    logits = torch.tensor([[logit(0.04)]], requires_grad=True)
    value = asymmetric_loss(logits, torch.zeros(1, 1))
    value.backward()
    assert value.item() == 0 and logits.grad is not None and logits.grad.item() == 0
    assert asymmetric_loss(torch.tensor([[logit(0.06)]]), torch.zeros(1, 1)) > 0


@pytest.mark.parametrize("options", [{"gamma_pos": -1.0}, {"gamma_neg": -1.0}, {"shift": 1.0}, {"shift": -0.1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="asymmetric_loss: gamma_pos, gamma_neg and shift are"):
        asymmetric_loss(torch.zeros(1, 1), torch.zeros(1, 1), **options)
    with pytest.raises(ValueError, match="gamma is -1"):
        multi_label_focal_loss(torch.zeros(1, 1), torch.zeros(1, 1), gamma=-1)
