"""Online hard pixels, against a sort by hand."""

import math

import pytest
import torch

from mtl_d2.losses import HardPixels, hardest, masked_cross_entropy

IGNORE = 255


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 3, 7, 9, generator=generator)
    targets = torch.randint(0, 3, (2, 7, 9), generator=generator)
    targets[0, :2] = IGNORE
    return logits, targets


def kept_by_hand(logits: torch.Tensor, targets: torch.Tensor, count: int) -> set[tuple[int, ...]]:
    """The pixels with the lowest probability of their own class; of equal ones the earlier."""
    probs = logits.softmax(1)
    pixels = [tuple(p) for p in (targets != IGNORE).nonzero().tolist()]
    return set(sorted(pixels, key=lambda p: float(probs[p[0], targets[p], p[1], p[2]]))[:count])


def kept(targets: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(p) for p in (targets != IGNORE).nonzero().tolist()}


@pytest.mark.parametrize(("fraction", "count"), [(0.25, 27), (0.01, 2), (0.5, 54), (0.999, 108)])
def test_a_fraction_keeps_the_pixels_that_a_sort_by_hand_keeps(fraction, count):
    logits, targets = batch()  # 126 pixels of which 18 are ignored
    found = HardPixels(fraction=fraction)(logits, targets)
    assert kept(found) == kept_by_hand(logits, targets, count)
    assert torch.equal(found[found != IGNORE], targets[found != IGNORE])


def test_the_loss_is_the_mean_over_the_hard_pixels():
    logits, targets = batch()
    losses = sorted((-math.log(logits.softmax(1)[p[0], targets[p], p[1], p[2]]) for p in kept(targets)), reverse=True)
    value = masked_cross_entropy(logits, HardPixels(fraction=0.1)(logits, targets))
    assert value.item() == pytest.approx(sum(losses[:11]) / 11, rel=1e-5)


def test_a_threshold_keeps_what_is_less_sure_and_a_minimum_of_all():
    logits, targets = batch()
    unsure = {p for p in kept(targets) if logits.softmax(1)[p[0], targets[p], p[1], p[2]] <= 0.7}
    assert 40 < len(unsure) < 108
    assert kept(HardPixels(threshold=0.7, min_kept=0)(logits, targets)) == unsure
    assert kept(HardPixels(threshold=0.7, min_kept=1 / 3)(logits, targets)) == unsure
    assert kept(HardPixels(threshold=1e-9, min_kept=1 / 3)(logits, targets)) == kept_by_hand(logits, targets, 36)


def test_ignored_pixels_are_never_picked_however_wrong():
    logits, targets = torch.zeros(1, 2, 3, 10), torch.zeros(1, 3, 10, dtype=torch.long)
    targets[:, :2] = IGNORE
    logits[:, 1, 0], logits[:, :, 1], logits[:, 0, 2] = 50.0, math.nan, 50.0  # wrong, no number; sure and right
    assert kept(HardPixels(fraction=0.2)(logits, targets)) == {(0, 2, 0), (0, 2, 1)}
    assert kept(HardPixels(threshold=0.5, min_kept=0.1)(logits, targets)) == {(0, 2, 0)}


@pytest.mark.parametrize("pixels", [HardPixels(fraction=0.1), HardPixels(threshold=0.5)])
@pytest.mark.parametrize("images", [0, 2])
def test_no_valid_pixel_is_no_error(pixels, images):
    nothing = torch.full((images, 4, 4), IGNORE)
    assert torch.equal(pixels(torch.zeros(images, 3, 4, 4), nothing), nothing)


def test_of_equal_pixels_the_earlier_are_kept():
    found = HardPixels(fraction=0.3)(torch.zeros(1, 2, 2, 5), torch.zeros(1, 2, 5, dtype=torch.long))
    assert found.flatten().tolist() == [0, 0, 0] + [IGNORE] * 7


def test_all_pixels_are_the_targets_themselves():
    logits, targets = batch()
    assert HardPixels()(logits, targets) is targets


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 9])
def test_hardest_is_a_stable_sort(count):
    losses = torch.tensor([1.0, 5, 2, 5, 2, 2])
    order = torch.sort(losses, descending=True, stable=True).indices[:count]
    assert hardest(losses, count).nonzero().flatten().tolist() == sorted(order.tolist())


def test_a_loss_that_is_not_a_number_is_kept_so_that_the_training_sees_it():
    assert hardest(torch.tensor([1.0, math.nan, 2.0, 0.5]), 2).tolist() == [False, True, True, False]
    assert hardest(torch.tensor([math.nan, 1.0, math.nan, math.inf]), 2).tolist() == [True, False, True, False]
    assert HardPixels(threshold=0.5, min_kept=0).choose(torch.tensor([0.1, math.nan])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "FRACTION is 0.0, expected a share"),
        ({"fraction": math.nan}, "FRACTION is nan"),
        ({"threshold": 1.0}, "THRESHOLD is 1.0, expected a probability"),
        ({"min_kept": -0.1}, "MIN_KEPT is -0.1"),
        ({"fraction": 0.5, "threshold": 0.5}, "has a FRACTION, 0.5, and a THRESHOLD, 0.5: set one"),
    ],
)
def test_a_setting_out_of_its_range_is_named(options, message):
    with pytest.raises(ValueError, match=f"MODEL.MTL.SEM_SEG_HEAD.OHEM.*{message}"):
        HardPixels(**options)
