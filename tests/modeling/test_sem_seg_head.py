"""The semantic head's criteria."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from mtl_d2.modeling.sem_seg import MultiTaskSemSegFPNHead

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


def _head(loss):
    torch.manual_seed(2)
    return MultiTaskSemSegFPNHead(SHAPES, loss=loss, **ARGS)


def test_cross_entropy_is_detectron2s():
    head, reference = _head("ce"), SemSegFPNHead(SHAPES, **ARGS)
    reference.load_state_dict(head.state_dict())
    expected = reference(_features(), _targets())[1]["loss_sem_seg"]
    torch.testing.assert_close(head(_features(), _targets())[1]["loss_sem_seg"], expected, rtol=0, atol=1e-6)


def test_focal_without_focus_is_cross_entropy():
    torch.manual_seed(2)
    focal = MultiTaskSemSegFPNHead(SHAPES, loss="focal", focal_gamma=0.0, **ARGS)
    expected = _head("ce")(_features(), _targets())[1]["loss_sem_seg"]
    torch.testing.assert_close(focal(_features(), _targets())[1]["loss_sem_seg"], expected)


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
