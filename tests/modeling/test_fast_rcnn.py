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


@pytest.mark.parametrize(
    ("key", "value"),
    [("FOCAL_GAMMA", -1.0), ("FOCAL_GAMMA", float("nan")), ("FOCAL_ALPHA", 1.0), ("FOCAL_ALPHA", 25.0)],
)
def test_an_option_of_focal_out_of_range_is_named(focal_cfg, key, value):
    focal_cfg.MODEL.MTL.ROI_BOX_HEAD[key] = value
    with pytest.raises(ValueError, match=f"MODEL.MTL.ROI_BOX_HEAD.{key} is {value}, expected "):
        build(focal_cfg)


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


REGIONS = ((0, 2, 3), (1, 3, 3, 0))


def weighted(cfg, weights, cls_loss="ce"):
    cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS = cls_loss
    cfg.MODEL.MTL.ROI_BOX_HEAD.CLASS_WEIGHTS = weights
    return build(cfg)


def gradients(predictor, losses):
    sum(losses.values()).backward()
    return [p.grad for p in predictor.parameters()]


@pytest.mark.parametrize("cls_loss", ["ce", "focal"])
def test_weights_of_one_are_no_weights_to_the_bit(rcnn_cfg, cls_loss):
    proposals = [make_proposals(*classes) for classes in REGIONS]
    ours, plain = weighted(rcnn_cfg, [1.0, 1, 1, 1], cls_loss), weighted(rcnn_cfg, None, cls_loss)
    losses, expected = run(ours, proposals)[1], run(plain, proposals)[1]
    assert losses == expected
    assert all(torch.equal(*pair) for pair in zip(gradients(ours, losses), gradients(plain, expected), strict=True))
    assert list(ours.state_dict()) == list(plain.state_dict())


def test_weighted_cross_entropy_is_that_of_torch_with_a_weight_of_its_own_for_the_background(rcnn_cfg):
    weights = [0.5, 4.0, 1.0, 0.25]
    predictor = weighted(rcnn_cfg, weights)
    (scores, _), losses = run(predictor, [make_proposals(*classes) for classes in REGIONS])
    expected = F.cross_entropy(scores, torch.tensor([c for image in REGIONS for c in image]), torch.tensor(weights))
    torch.testing.assert_close(losses["loss_cls"], expected)
    plain = run(weighted(rcnn_cfg, None), [make_proposals(*classes) for classes in REGIONS])[1]
    assert losses["loss_box_reg"] == plain["loss_box_reg"]


def test_weighted_focal_of_undecided_scores_is_the_value_computed_by_hand(rcnn_cfg):
    predictor = weighted(rcnn_cfg, [2.0, 1.0, 3.0, 0.5], "focal")
    torch.nn.init.zeros_(predictor.cls_score.weight)
    torch.nn.init.zeros_(predictor.cls_score.bias)
    # Each of three regions has three sigmoids at 1/2: a foreground one a positive and two negatives.
    losses = run(predictor, [make_proposals(0, 2, 3)])[1]
    foreground, background = 0.25 + 2 * 0.75, 3 * 0.75
    expected = ((2 + 3) * foreground + 0.5 * background) * 0.25 * math.log(2) / (2 + 3)
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cls_loss", ["ce", "focal"])
@pytest.mark.parametrize("gt_classes", [(), (3, 3), (1,)], ids=["no region", "no foreground", "of weight 0"])
def test_weighted_losses_are_finite_and_attached_without_what_they_weigh(rcnn_cfg, cls_loss, gt_classes):
    predictor = weighted(rcnn_cfg, [1.0, 0.0, 2.0, 1.0], cls_loss)
    losses = run(predictor, [make_proposals(*gt_classes)])[1]
    assert all(g is not None and g.isfinite().all() for g in gradients(predictor, losses))
    assert losses["loss_cls"] >= 0 and (len(gt_classes) == 2 or losses["loss_cls"] == 0)


@pytest.mark.parametrize("gt_classes", [(3, 3), (0, 2, 3)], ids=["no foreground", "foreground"])
def test_the_scale_of_the_weights_of_focal_does_not_matter(rcnn_cfg, gt_classes):
    losses = [
        run(weighted(rcnn_cfg, [scale * w for w in (1.0, 0.5, 2.0, 4.0)], "focal"), [make_proposals(*gt_classes)])[1]
        for scale in (1, 100)
    ]
    assert losses[0]["loss_cls"].item() == pytest.approx(losses[1]["loss_cls"].item(), rel=1e-5)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou", "diou", "ciou", "iou"])
def test_a_box_that_is_not_a_number_is_a_loss_that_is_not(rcnn_cfg, box_loss):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = box_loss
    predictor, proposals = build(rcnn_cfg), [make_proposals(0, 2, 3)]
    scores, deltas = predictor(torch.randn(3, 16, generator=torch.Generator().manual_seed(2)))
    for region, finite in ((1, False), (2, True)):  # of the background no box is asked
        broken = deltas.clone()
        broken[region] = float("nan")
        with EventStorage():
            loss = predictor.losses((scores, broken), proposals)["loss_box_reg"]
        assert loss.isfinite() == finite
        assert predictor.region_losses((scores, broken), proposals).isfinite().all()


def test_a_wrong_number_of_weights_says_what_the_last_is_for(rcnn_cfg):
    with pytest.raises(ValueError, match=r"CLASS_WEIGHTS has 3 numbers, expected 4: .* one for the background"):
        weighted(rcnn_cfg, [1.0, 1, 1])


@pytest.mark.parametrize("box_loss", ["smooth_l1", "iou", "giou", "diou", "ciou"])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("cls_loss", ["ce", "focal"])
def test_the_losses_of_the_regions_add_up_to_the_losses(rcnn_cfg, box_loss, agnostic, cls_loss):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = box_loss
    rcnn_cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = agnostic
    rcnn_cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT = 3.0
    rcnn_cfg.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = 0.5
    predictor = weighted(rcnn_cfg, None, cls_loss)
    background = make_proposals(3, 3)
    background.remove("gt_boxes")  # as of an image without an object
    proposals = [make_proposals(*REGIONS[0]), background]
    predictions, losses = run(predictor, proposals)
    regions = predictor.region_losses(predictions, proposals)
    assert regions.shape == (5,) and not regions.requires_grad
    share = 2 if cls_loss == "focal" else 5  # foreground regions, or all
    torch.testing.assert_close(regions.sum(), losses["loss_cls"] * share + losses["loss_box_reg"] * 5)
    assert (regions[3:] < regions[:2].min()).all() or cls_loss == "focal"


def test_the_loss_of_a_region_is_that_of_the_region_alone(rcnn_cfg):
    predictor = weighted(rcnn_cfg, None)
    proposals = make_proposals(0, 2, 3)
    (scores, deltas), _ = run(predictor, [proposals])
    regions = predictor.region_losses((scores, deltas), [proposals])
    for i in range(3):
        with EventStorage():
            alone = predictor.losses((scores[i : i + 1], deltas[i : i + 1]), [proposals[i : i + 1]])
        torch.testing.assert_close(regions[i], sum(alone.values()).detach())
