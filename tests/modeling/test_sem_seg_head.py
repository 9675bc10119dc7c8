"""The semantic head's criteria."""

import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from mtl_d2.losses import HardPixels
from mtl_d2.modeling.sem_seg import MultiTaskSemSegFPNHead, SemSegCriterion
from mtl_d2.testing import tiny_cfg

SHAPES = {"p2": ShapeSpec(channels=8, stride=4), "p3": ShapeSpec(channels=8, stride=8)}
ARGS = {"num_classes": 3, "conv_dims": 32, "common_stride": 4, "norm": "GN", "ignore_value": 255}


def _features():
    torch.manual_seed(0)
    return {"p2": torch.randn(2, 8, 8, 12), "p3": torch.randn(2, 8, 4, 6)}


def _targets():
    torch.manual_seed(1)
    targets = torch.randint(0, 3, (2, 32, 48))
    targets[:, :5] = 255
    return targets


def _head(loss, **options):
    torch.manual_seed(2)
    return MultiTaskSemSegFPNHead(SHAPES, criterion=SemSegCriterion(3, loss=loss, **options), **ARGS)


def test_cross_entropy_is_detectron2s():
    head, reference = _head("ce"), SemSegFPNHead(SHAPES, **ARGS)
    reference.load_state_dict(head.state_dict())
    expected = reference(_features(), _targets())[1]["loss_sem_seg"]
    torch.testing.assert_close(head(_features(), _targets())[1]["loss_sem_seg"], expected, rtol=0, atol=1e-6)


def test_focal_without_focus_is_cross_entropy():
    focal = _head("focal", focal_gamma=0.0)
    expected = _head("ce")(_features(), _targets())[1]["loss_sem_seg"]
    torch.testing.assert_close(focal(_features(), _targets())[1]["loss_sem_seg"], expected)


def test_a_focus_out_of_range_is_named():
    with pytest.raises(ValueError, match="MODEL.MTL.SEM_SEG_HEAD.FOCAL_GAMMA is -1.0, expected a finite number of 0"):
        SemSegCriterion(3, loss="focal", focal_gamma=-1.0)


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({"LOSS": "focal", "FOCAL_GAMMA": 3.0}, (3 / 4) ** 3),
        ({"OHEM.FRACTION": 0.25}, 4.0),  # the loss is in one pixel of four
        ({"OHEM.FRACTION": 0.5}, 2.0),
        ({"OHEM.THRESHOLD": 0.9, "OHEM.MIN_KEPT": 0.5}, 2.0),
    ],
)
def test_the_criterion_has_the_options_of_the_config(options, share):
    """Of four classes. All pixels are undecided for focal; of the others three have their class for sure."""
    cfg = tiny_cfg(**{f"MODEL.MTL.SEM_SEG_HEAD.{key}": value for key, value in options.items()})
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 4
    logits = torch.zeros(1, 4, 1, 4)
    if "LOSS" not in options:
        logits[:, 0, :, 1:] = 100.0
    loss = SemSegCriterion(**SemSegCriterion.from_config(cfg))(logits, torch.zeros(1, 1, 4, dtype=torch.long))
    mean = math.log(4) * (1 if "LOSS" in options else 1 / 4)
    assert loss.item() == pytest.approx(share * mean * cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT)


def test_focal_is_smaller_and_dice_adds_at_most_one():
    values = {loss: _head(loss)(_features(), _targets())[1]["loss_sem_seg"].item() for loss in ("ce", "focal", "dice")}
    assert 0 < values["focal"] < values["ce"] < values["dice"] <= values["ce"] + 1


@pytest.mark.parametrize("loss", ["ce", "focal", "dice"])
def test_no_valid_pixel_gives_zero_with_a_gradient(loss):
    head = _head(loss)
    value = head(_features(), torch.full((2, 32, 48), 255))[1]["loss_sem_seg"]
    value.backward()
    assert value == 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def _loss(features=None, targets=None, loss="ce", **options):
    head = _head(loss, **options)
    value = head(features or _features(), _targets() if targets is None else targets)[1]["loss_sem_seg"]
    value.backward()
    return value, [p.grad for p in head.parameters()], head


@pytest.mark.parametrize("loss", ["ce", "focal", "dice"])
def test_weights_of_one_are_no_weights_to_the_bit(loss):
    (value, gradients, head), (reference, expected, plain) = _loss(loss=loss, class_weights=[1, 1, 1]), _loss(loss=loss)
    assert torch.equal(value, reference)
    assert all(torch.equal(*pair) for pair in zip(gradients, expected, strict=True))
    assert list(head.state_dict()) == list(plain.state_dict())


def test_class_weights_are_those_of_torch():
    value, _, head = _loss(class_weights=[0.5, 3.0, 0.0])
    with torch.no_grad():
        logits = F.interpolate(head.layers(_features()), scale_factor=4, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(logits, _targets(), torch.tensor([0.5, 3.0, 0.0]), ignore_index=255)
    torch.testing.assert_close(value.detach(), expected)


def test_hard_pixels_are_the_mean_of_the_largest_losses_and_leave_dice_alone():
    hard = HardPixels(fraction=0.1)
    value, gradients, head = _loss(hard_pixels=hard)
    with torch.no_grad():
        logits = F.interpolate(head.layers(_features()), scale_factor=4, mode="bilinear", align_corners=False)
    losses = F.cross_entropy(logits, _targets(), ignore_index=255, reduction="none").flatten()
    count = -(-(_targets() != 255).sum().item() // 10)
    torch.testing.assert_close(value.detach(), losses.sort(descending=True).values[:count].mean())
    assert all(g.isfinite().all() for g in gradients) and any(g.any() for g in gradients)
    extra = _loss(loss="dice", hard_pixels=hard)[0] - value
    torch.testing.assert_close(extra, _loss(loss="dice")[0] - _loss(loss="ce")[0])


@pytest.mark.parametrize("options", [{"class_weights": [1, 2, 0.5]}, {"hard_pixels": HardPixels(fraction=0.2)}])
def test_with_an_unlabelled_image_or_none_labelled_weights_and_hard_pixels_stay_finite(options):
    targets = _targets()
    targets[1] = 255
    half = _loss(targets=targets, **options)
    alone = _loss({k: f[:1] for k, f in _features().items()}, targets[:1], **options)
    torch.testing.assert_close(half[0], alone[0])
    value, gradients, _ = _loss(targets=torch.full_like(targets, 255), **options)
    assert value == 0 and all(not g.any() for g in gradients)


def test_the_config_gives_weights_and_hard_pixels():
    cfg = tiny_cfg(
        **{
            "MODEL.MTL.SEM_SEG_HEAD.CLASS_WEIGHTS": [1.0, 2, 3, 4],
            "MODEL.MTL.SEM_SEG_HEAD.OHEM.THRESHOLD": 0.7,
            "MODEL.MTL.SEM_SEG_HEAD.OHEM.MIN_KEPT": 0.25,
        }
    )
    levels = {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 6)}
    head = MultiTaskSemSegFPNHead(cfg, levels)
    assert head.criterion.class_weights().tolist() == [1, 2, 3, 4]
    assert head.criterion.hard_pixels == HardPixels(threshold=0.7, min_kept=0.25)
    cfg.MODEL.MTL.SEM_SEG_HEAD.CLASS_WEIGHTS = [1.0, 2]
    with pytest.raises(ValueError, match="SEM_SEG_HEAD.CLASS_WEIGHTS has 2 numbers, expected 4: one for each of MODEL"):
        MultiTaskSemSegFPNHead(cfg, levels)
