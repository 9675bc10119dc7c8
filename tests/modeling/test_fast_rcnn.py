"""MultiTaskFastRCNNOutputLayers: Detectron2's predictor to the bit by default; other losses by choice."""

import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torchvision.ops import box_iou

from mtl_d2.modeling import MultiTaskFastRCNNOutputLayers

SIZE = (64, 64)
NUM_CLASSES = 3
LOSSES = {"loss_cls", "loss_box_reg"}


def build(cfg, cls=MultiTaskFastRCNNOutputLayers):
    torch.manual_seed(0)
    return cls(cfg, ShapeSpec(channels=16))


def make_proposals(*gt_classes: int) -> Instances:
    """Proposals of one image, moved two pixels off their ground truth."""
    count = len(gt_classes)
    corner = torch.arange(count, dtype=torch.float32)[:, None]
    boxes = torch.cat([corner, corner, corner + 20, corner + 30], 1)
    proposals = Instances(SIZE)
    proposals.proposal_boxes = Boxes(boxes)
    proposals.gt_boxes = Boxes(boxes + 2)
    proposals.gt_classes = torch.tensor(gt_classes, dtype=torch.long)
    return proposals


def run(predictor, proposals):
    regions = sum(len(p) for p in proposals)
    x = torch.randn(regions, 16, generator=torch.Generator().manual_seed(2))
    predictions = predictor(x)
    with EventStorage():
        return predictions, predictor.losses(predictions, proposals)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou", "diou", "ciou"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_cross_entropy_is_detectron2_to_the_bit(rcnn_cfg, box_loss, agnostic):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = box_loss
    rcnn_cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = agnostic
    proposals = [make_proposals(0, 2, 3), make_proposals(1, 3)]
    ours, theirs = build(rcnn_cfg), build(rcnn_cfg, FastRCNNOutputLayers)
    theirs.load_state_dict(ours.state_dict())
    (predictions, losses), (_, expected) = run(ours, proposals), run(theirs, proposals)
    assert losses == expected
    for mine, reference in zip(
        ours.predict_probs(predictions, proposals), theirs.predict_probs(predictions, proposals), strict=True
    ):
        assert torch.equal(mine, reference)


@pytest.fixture
def focal_cfg(rcnn_cfg):
    rcnn_cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS = "focal"
    return rcnn_cfg


def test_focal_of_undecided_scores_is_the_value_computed_by_hand(focal_cfg):
    predictor = build(focal_cfg)
    torch.nn.init.zeros_(predictor.cls_score.weight)
    torch.nn.init.zeros_(predictor.cls_score.bias)
    # Two foreground regions and one background: 2 positive and 7 negative sigmoids, each at 1/2.
    losses = run(predictor, [make_proposals(0, 2, 3)])[1]
    expected = (2 * 0.25 + 7 * 0.75) * 0.25 * math.log(2) / 2
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-6)


def test_focal_without_focus_is_the_binary_cross_entropy_per_foreground_region(focal_cfg):
    focal_cfg.MODEL.MTL.ROI_BOX_HEAD.FOCAL_GAMMA = 0.0
    focal_cfg.MODEL.MTL.ROI_BOX_HEAD.FOCAL_ALPHA = -1.0
    predictor = build(focal_cfg)
    proposals = [make_proposals(0, 2, 3), make_proposals(1, 3)]
    (scores, _), losses = run(predictor, proposals)
    targets = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]])
    expected = F.binary_cross_entropy_with_logits(scores[:, :3], targets, reduction="sum") / 3
    assert torch.allclose(losses["loss_cls"], expected)


def test_focal_leaves_the_box_loss_alone_and_the_background_column_untrained(focal_cfg):
    proposals = [make_proposals(0, 2, 3)]
    predictor, reference = build(focal_cfg), build(focal_cfg, FastRCNNOutputLayers)
    losses = run(predictor, proposals)[1]
    assert losses["loss_box_reg"] == run(reference, proposals)[1]["loss_box_reg"]
    losses["loss_cls"].backward()
    gradient = predictor.cls_score.weight.grad.abs().amax(1)
    assert gradient[NUM_CLASSES] == 0 and (gradient[:NUM_CLASSES] > 0).all()


def test_focal_starts_at_the_prior_and_keeps_detectron2s_parameters(focal_cfg):
    predictor, reference = build(focal_cfg), build(focal_cfg, FastRCNNOutputLayers)
    assert torch.allclose(predictor.cls_score.bias[:NUM_CLASSES].sigmoid(), torch.tensor(0.01))
    predictor.load_state_dict(reference.state_dict())


def test_focal_probabilities_are_sigmoids_that_detectron2s_inference_reads(focal_cfg):
    predictor = build(focal_cfg)
    proposals = [make_proposals(0, 0), make_proposals(0)]
    scores = torch.tensor([[5.0, -9, -9, 0], [-9.0, 4, 3, 0], [-9.0, -9, -9, 0]])
    predictions = (scores, torch.zeros(3, 4 * NUM_CLASSES))
    probs = predictor.predict_probs(predictions, proposals)
    assert [tuple(p.shape) for p in probs] == [(2, 4), (1, 4)]
    assert torch.equal(probs[0][:, :NUM_CLASSES], scores[:2, :NUM_CLASSES].sigmoid())
    assert torch.allclose(probs[1][0, NUM_CLASSES], 1 - torch.tensor(-9.0).sigmoid())
    first, second = predictor.inference(predictions, proposals)[0]
    assert first.pred_classes.tolist() == [0, 1, 2]  # the second box may be of both classes
    assert torch.allclose(first.scores, torch.tensor([5.0, 4, 3]).sigmoid())
    assert len(second) == 0


@pytest.mark.parametrize("agnostic", [False, True])
def test_the_iou_loss_of_undecided_deltas_is_that_of_the_proposals(rcnn_cfg, agnostic):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = "iou"
    rcnn_cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = agnostic
    predictor = build(rcnn_cfg)
    torch.nn.init.zeros_(predictor.bbox_pred.weight)
    proposals = make_proposals(0, 2, 3, 1)
    ious = box_iou(proposals.proposal_boxes.tensor, proposals.gt_boxes.tensor).diagonal()
    expected = (1 - ious[[0, 1, 3]]).sum() / 4
    assert torch.allclose(run(predictor, [proposals])[1]["loss_box_reg"], expected, rtol=1e-4)


@pytest.mark.parametrize("cls_loss", ["ce", "focal"])
@pytest.mark.parametrize("box_loss", ["smooth_l1", "iou"])
@pytest.mark.parametrize("gt_classes", [(), (3, 3)], ids=["no region", "no foreground"])
def test_without_foreground_every_loss_is_finite_and_attached(rcnn_cfg, cls_loss, box_loss, gt_classes):
    rcnn_cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS = cls_loss
    rcnn_cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = box_loss
    predictor = build(rcnn_cfg)
    losses = run(predictor, [make_proposals(*gt_classes)])[1]
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    assert losses["loss_box_reg"] == 0
    assert all(parameter.grad.isfinite().all() for parameter in predictor.parameters())


def test_under_autocast_predictions_are_float32(focal_cfg):
    with torch.autocast("cpu", torch.bfloat16):
        predictions, losses = run(build(focal_cfg), [make_proposals(0, 2, 3)])
    assert {x.dtype for x in (*predictions, *losses.values())} == {torch.float32}


def test_an_unknown_loss_is_an_error_that_names_the_key(rcnn_cfg):
    rcnn_cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS = "hinge"
    with pytest.raises(ValueError, match=r"MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS is 'hinge'"):
        build(rcnn_cfg)
