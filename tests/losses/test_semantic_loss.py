"""Cross-entropy, focal and dice over semantic maps."""

import math

import pytest
import torch
import torch.nn.functional as F

from mtl_d2.losses import dice_loss, masked_cross_entropy, softmax_focal_loss

IGNORE = 255
LOSSES = [masked_cross_entropy, softmax_focal_loss, dice_loss]


def random_batch(images: int = 3, classes: int = 4, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, classes, size, size, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, classes, (images, size, size), generator=generator)
    targets[:, 0] = IGNORE
    return logits, targets


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("images", [0, 2])
def test_nothing_valid_is_zero_with_a_gradient(loss, images):
    logits = torch.randn(images, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((images, 4, 4), IGNORE))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", LOSSES)
def test_an_unlabelled_image_changes_nothing(loss):
    logits, targets = random_batch()
    targets[1] = IGNORE
    assert torch.allclose(loss(logits, targets), loss(logits[[0, 2]], targets[[0, 2]]))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_the_images_does_not_matter(loss):
    logits, targets = random_batch()
    assert torch.allclose(loss(logits, targets), loss(logits.flip(0), targets.flip(0)))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_right(loss):
    logits, targets = random_batch(images=2, size=2)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
def test_bfloat16_logits_are_summed_in_float32(loss):
    logits, targets = random_batch(size=32)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, targets)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(half.float(), targets).item(), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_another_ignore_index_is_respected(loss):
    logits, targets = random_batch()
    assert loss(logits, targets.where(targets != IGNORE, -1), ignore_index=-1) == loss(logits, targets)


def test_cross_entropy_is_that_of_torch_to_the_bit():
    logits, targets = random_batch(size=33)
    ours, theirs = logits.float().requires_grad_(), logits.float().requires_grad_()
    value = masked_cross_entropy(ours, targets)
    reference = F.cross_entropy(theirs, targets, ignore_index=IGNORE)
    value.backward()
    reference.backward()
    assert torch.equal(value, reference)
    assert torch.equal(ours.grad, theirs.grad)


def test_focal_of_an_even_guess_is_the_value_computed_by_hand():
    loss = softmax_focal_loss(torch.zeros(1, 2, 3), torch.tensor([[0, 1, IGNORE]]), gamma=2.0)
    assert loss.item() == pytest.approx(0.25 * math.log(2))


def test_focal_weighs_a_likely_pixel_down_by_what_it_lacks():
    logits = torch.tensor([[[math.log(4)], [0.0]]])  # p = 0.8 of the first class
    assert softmax_focal_loss(logits, torch.tensor([[0]]), gamma=2.0).item() == pytest.approx(-(0.2**2) * math.log(0.8))
    assert softmax_focal_loss(logits, torch.tensor([[1]]), gamma=1.0).item() == pytest.approx(-0.8 * math.log(0.2))


def test_focal_with_gamma_zero_is_the_cross_entropy():
    logits, targets = random_batch()
    assert torch.allclose(
        softmax_focal_loss(logits, targets, gamma=0), F.cross_entropy(logits, targets, ignore_index=IGNORE)
    )


def test_focal_weighs_each_class():
    logits, targets = torch.zeros(1, 2, 3), torch.tensor([[0, 1, IGNORE]])
    loss = softmax_focal_loss(logits, targets, gamma=0, weight=torch.tensor([1.0, 3.0]), reduction="none")
    assert loss.tolist() == [[pytest.approx(math.log(2)), pytest.approx(3 * math.log(2)), 0]]
    total = softmax_focal_loss(logits, targets, gamma=0, weight=torch.tensor([1.0, 3.0]), reduction="sum")
    assert total.item() == pytest.approx(4 * math.log(2))


def test_the_weighted_cross_entropy_is_that_of_torch():
    logits, targets = random_batch(size=33)
    weight = torch.tensor([0.2, 0.0, 3.0, 1.0])
    ours, theirs = logits.float().requires_grad_(), logits.float().requires_grad_()
    value = masked_cross_entropy(ours, targets, weight=weight)
    reference = F.cross_entropy(theirs, targets, weight, ignore_index=IGNORE)
    value.backward()
    reference.backward()
    torch.testing.assert_close(value, reference)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(softmax_focal_loss(logits.float(), targets, gamma=0, weight=weight), reference)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_one_are_no_weights_to_the_bit(loss):
    logits, targets = random_batch(size=33)
    values, gradients = [], []
    for weight in (None, torch.ones(4)):
        leaf = logits.float().requires_grad_()
        values.append(loss(leaf, targets, weight=weight))
        values[-1].backward()
        gradients.append(leaf.grad)
    assert torch.equal(*values) and torch.equal(*gradients)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_twice_as_large_change_nothing(loss):
    logits, targets = random_batch()
    weight = torch.tensor([0.2, 0.0, 3.0, 1.0])
    assert torch.allclose(loss(logits, targets, weight=2 * weight), loss(logits, targets, weight=weight))
    assert not torch.allclose(loss(logits, targets, weight=weight), loss(logits, targets))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_a_weighted_loss_is_right(loss):
    logits, targets = random_batch(images=2, size=2)
    weight = torch.tensor([0.2, 0.0, 3.0, 1.0])
    assert torch.autograd.gradcheck(lambda x: loss(x, targets, weight=weight), logits.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
def test_where_only_classes_of_weight_zero_are_there_the_loss_is_zero_with_a_gradient(loss):
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.ones(2, 4, 4, dtype=torch.long), weight=torch.tensor([1.0, 0.0, 1.0]))
    value.backward()
    assert value.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_weighted_focal_of_an_even_guess_is_the_value_computed_by_hand():
    # Three pixels at p = 1/2: 1/4 log 2 each, whatever their weights 1, 1 and 4.
    targets = torch.tensor([[0, 0, 1, IGNORE]])
    loss = softmax_focal_loss(torch.zeros(1, 2, 4), targets, weight=torch.tensor([1.0, 4.0]))
    assert loss.item() == pytest.approx(0.25 * math.log(2))
    # The first is sure and right: what is left is 1 + 4 of 1 + 1 + 4.
    logits = torch.zeros(1, 2, 4)
    logits[0, 0, 0] = 100
    loss = softmax_focal_loss(logits, targets, weight=torch.tensor([1.0, 4.0]))
    assert loss.item() == pytest.approx(5 / 6 * 0.25 * math.log(2))


def test_weighted_dice_of_an_even_guess_is_the_value_computed_by_hand():
    weight = torch.tensor([1.0, 3.0, 50.0])  # the third class is not there
    logits = torch.zeros(1, 3, 1, 4)
    logits[:, 2] = -100
    loss = dice_loss(logits, torch.tensor([[[0, 0, 1, IGNORE]]]), weight=weight)
    assert loss.item() == pytest.approx(1 - (1 * 2 / 2.75 + 3 * 1 / 1.75) / 4)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_for_another_number_of_classes_are_an_error(loss):
    with pytest.raises(ValueError, match=rf"{loss.__name__}: weight has shape \(3,\), expected \(4,\)"):
        loss(*random_batch(), weight=torch.ones(3))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_of_a_sure_and_right_pixel_has_a_finite_gradient(gamma):
    logits = torch.tensor([[[200.0], [-200.0]]], requires_grad=True)
    softmax_focal_loss(logits, torch.tensor([[0]]), gamma=gamma).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"gamma": -1}, "gamma is -1"), ({"reduction": "max"}, "'max'"), ({"weight": torch.ones(3)}, r"\(3,\)")],
)
def test_focal_names_the_argument_at_fault(options, message):
    with pytest.raises(ValueError, match=message):
        softmax_focal_loss(torch.zeros(1, 2, 1), torch.tensor([[0]]), **options)


def test_dice_of_an_even_guess_is_the_value_computed_by_hand():
    # Class 0 has two pixels, class 1 one: D_0 = 2 * 1 / (0.75 + 2), D_1 = 2 * 0.5 / (0.75 + 1).
    loss = dice_loss(torch.zeros(1, 2, 1, 4), torch.tensor([[[0, 0, 1, IGNORE]]]))
    assert loss.item() == pytest.approx(1 - (2 / 2.75 + 1 / 1.75) / 2)


def test_dice_of_a_batch_is_the_mean_of_its_images():
    logits, targets = random_batch()
    targets[0] = targets[0].clamp(max=1)  # unlike shares of the classes
    alone = [dice_loss(logits[i : i + 1], targets[i : i + 1]) for i in range(len(logits))]
    assert alone[0].item() != pytest.approx(alone[1].item(), rel=1e-2)
    torch.testing.assert_close(dice_loss(logits, targets), torch.stack(alone).mean())


def test_dice_counts_the_classes_present_alone():
    perfect = torch.tensor([[[[50.0, 50.0]], [[-50.0, -50.0]], [[-50.0, -50.0]]]])
    assert dice_loss(perfect, torch.zeros(1, 1, 2, dtype=torch.long)).item() == pytest.approx(0, abs=1e-6)


def test_dice_keeps_an_inf_at_an_ignored_pixel_out_of_the_gradient():
    logits = torch.zeros(1, 2, 1, 2)
    logits[..., 1] = math.inf
    logits.requires_grad_()
    dice_loss(logits, torch.tensor([[[0, IGNORE]]])).backward()
    assert logits.grad.isfinite().all()
