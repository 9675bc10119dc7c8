"""Crowds are ignored, not negative, by the RPN and the ROI heads."""
# ruff: noqa: PLR0917, fixtures are positional

import pytest
import torch
from detectron2.modeling.proposal_generator import build_proposal_generator
from detectron2.modeling.roi_heads import build_roi_heads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from mtl_d2.modeling.crowds import in_crowd, set_crowds

OBJECT, CROWD = [4.0, 4, 20, 20], [24.0, 24, 64, 64]


def with_crowd(targets: Instances, *boxes: list[float]) -> Instances:
    set_crowds(targets, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    return targets


def test_a_box_is_in_a_crowd_by_half_of_its_own_area(make_targets):
    targets = with_crowd(make_targets(OBJECT), [0.0, 0, 10, 10], [40.0, 40, 60, 60])
    boxes = Boxes(torch.tensor([[0.0, 0, 20, 10], [0.0, 0, 21, 10], [45.0, 45, 46, 46], [20.0, 20, 30, 30]]))
    assert in_crowd(boxes, targets).tolist() == [True, False, True, False]


@pytest.mark.parametrize("boxes", [None, torch.zeros(0, 4)], ids=["unset", "none"])
def test_without_a_crowd_nothing_is_in_one(make_targets, boxes):
    targets = make_targets(OBJECT)
    set_crowds(targets, boxes)
    assert not in_crowd(Boxes(torch.tensor([OBJECT])), targets).any()
    assert not in_crowd(Boxes(torch.tensor([OBJECT])), make_targets(OBJECT)).any()


@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_the_rpn_ignores_the_anchors_in_a_crowd_and_no_others(rcnn_cfg, input_shape, features, make_targets, loss):
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = loss
    rpn = build_proposal_generator(rcnn_cfg, input_shape)
    anchors = rpn.anchor_generator([features["p2"], features["p3"]])
    inside = in_crowd(Boxes.cat(anchors), with_crowd(make_targets(OBJECT), CROWD))

    def labels(*targets: Instances) -> list[torch.Tensor]:
        torch.manual_seed(1)
        return rpn.label_and_sample_anchors(anchors, list(targets))[0]

    plain = labels(make_targets(OBJECT), make_targets(OBJECT))
    found = labels(with_crowd(make_targets(OBJECT), CROWD), make_targets(OBJECT))
    assert (plain[0][inside] == 0).any(), "a test without negatives in the crowd shows nothing"
    assert (found[0][inside] == -1).all()
    assert torch.equal(found[0][~inside], plain[0][~inside])
    assert torch.equal(found[1], plain[1])


def test_an_object_in_a_crowd_stays_an_object(rcnn_cfg, input_shape, features, make_targets):
    rpn = build_proposal_generator(rcnn_cfg, input_shape)
    anchors = rpn.anchor_generator([features["p2"], features["p3"]])
    labels = rpn.label_and_sample_anchors(anchors, [with_crowd(make_targets(OBJECT), [-64.0, -64, 128, 128])])[0][0]
    assert (labels == 1).any() and not (labels == 0).any()


def test_the_roi_heads_leave_out_the_background_in_a_crowd(rcnn_cfg, input_shape, make_targets):
    heads = build_roi_heads(rcnn_cfg, input_shape)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(40, 2, generator=generator) * 40
    proposals = Instances((64, 64))
    proposals.proposal_boxes = Boxes(torch.cat([corner, corner + 10], dim=1))
    proposals.objectness_logits = torch.zeros(40)

    def sample(target: Instances) -> Instances:
        torch.manual_seed(1)
        with EventStorage():
            return heads.label_and_sample_proposals([proposals], [target])[0]

    plain, crowded = sample(make_targets(OBJECT)), sample(with_crowd(make_targets(OBJECT), CROWD))
    target = with_crowd(make_targets(OBJECT), CROWD)
    kept = ~(in_crowd(plain.proposal_boxes, target) & (plain.gt_classes == heads.num_classes))
    assert 0 < kept.sum() < len(plain)
    assert torch.equal(crowded.proposal_boxes.tensor, plain.proposal_boxes.tensor[kept])
    assert (crowded.gt_classes < heads.num_classes).sum() == (plain.gt_classes < heads.num_classes).sum() > 0


def test_an_image_that_is_one_crowd_trains_without_a_region(rcnn_cfg, input_shape, images, features, make_targets):
    rpn, heads = build_proposal_generator(rcnn_cfg, input_shape), build_roi_heads(rcnn_cfg, input_shape)
    targets = [with_crowd(make_targets(), [0.0, 0, 64, 64]) for _ in range(2)]
    with EventStorage():
        proposals, losses = rpn(images, features, targets)
        losses.update(heads(images, features, proposals, targets)[1])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_rpn_loc"] == losses["loss_box_reg"] == losses["loss_mask"] == 0
