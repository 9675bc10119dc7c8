"""IoU loss of paired boxes."""

import pytest
import torch
from torchvision.ops import box_iou

from mtl_d2.losses import iou_loss


def test_the_value_is_the_one_computed_by_hand():
    # Overlap 2 x 2, union 16 + 16 - 4.
    loss = iou_loss(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[2.0, 2, 6, 6]]))
    assert loss.tolist() == [pytest.approx(1 - 4 / 28)]


def test_it_is_one_minus_torchvisions_iou():
    corners = torch.rand(2, 20, 4, generator=torch.Generator().manual_seed(0))
    boxes = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:] + 0.1], -1)
    expected = 1 - box_iou(boxes[0], boxes[1]).diagonal()
    assert torch.allclose(iou_loss(boxes[0], boxes[1]), expected, atol=1e-5)
    assert torch.allclose(iou_loss(boxes[0], boxes[1], "sum"), expected.sum(), atol=1e-4)
    assert torch.allclose(iou_loss(boxes[0], boxes[1], "mean"), expected.mean(), atol=1e-5)


@pytest.mark.parametrize(
    "other", [[10.0, 10, 12, 12], [2.0, 2, 2, 2], [4.0, 0, 8, 4]], ids=["disjoint", "no area", "touching"]
)
def test_boxes_that_do_not_overlap_cost_one_and_are_finite(other):
    box = torch.tensor([[0.0, 0, 4, 4]], requires_grad=True)
    loss = iou_loss(box, torch.tensor([other]), "sum")
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert box.grad.isfinite().all()


def test_two_boxes_without_an_area_are_finite():
    box = torch.zeros(1, 4, requires_grad=True)
    loss = iou_loss(box, torch.zeros(1, 4), "sum")
    loss.backward()
    assert loss.item() == 1 and box.grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_boxes_is_zero_with_a_gradient(reduction):
    boxes = torch.zeros(0, 4, requires_grad=True)
    loss = iou_loss(boxes, torch.zeros(0, 4), reduction)
    loss.backward()
    assert loss.item() == 0 and boxes.grad is not None


def test_the_gradient_is_right():
    boxes = torch.tensor([[0.0, 0, 4, 4], [1, 2, 5, 9]], dtype=torch.float64, requires_grad=True)
    others = torch.tensor([[1.0, 1, 6, 3], [0, 0, 3, 5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: iou_loss(x, others), boxes)


def test_an_unknown_reduction_is_an_error():
    with pytest.raises(ValueError, match="'max'"):
        iou_loss(torch.zeros(1, 4), torch.zeros(1, 4), "max")
