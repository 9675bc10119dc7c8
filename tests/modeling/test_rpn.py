"""MultiTaskRPN: Detectron2's RPN to the bit by default; focal and IoU losses by choice."""
# ruff: noqa: PLR0917, fixtures are positional

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.proposal_generator import build_proposal_generator
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from torchvision.ops import box_iou

BOXES = ([4.0, 4, 20, 20], [30.0, 24, 60, 60])
LOSSES = {"loss_rpn_cls", "loss_rpn_loc"}


def build(cfg, input_shape, name="MultiTaskRPN"):
    cfg = cfg.clone()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = name
    torch.manual_seed(0)
    return build_proposal_generator(cfg, input_shape)


def run(rpn, images, features, targets):
    torch.manual_seed(1)
    with EventStorage():
        return rpn(images, features, targets)


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou", "diou", "ciou"])
def test_cross_entropy_is_detectron2_to_the_bit(rcnn_cfg, input_shape, images, features, make_targets, box_loss):
    rcnn_cfg.MODEL.RPN.BBOX_REG_LOSS_TYPE = box_loss
    ours, theirs = build(rcnn_cfg, input_shape), build(rcnn_cfg, input_shape, "RPN")
    theirs.load_state_dict(ours.state_dict())
    targets = [make_targets(*BOXES), make_targets()]
    proposals, losses = run(ours, images, features, targets)
    expected_proposals, expected = run(theirs, images, features, targets)
    assert losses == expected
    for mine, reference in zip(proposals, expected_proposals, strict=True):
        assert torch.equal(mine.proposal_boxes.tensor, reference.proposal_boxes.tensor)
        assert torch.equal(mine.objectness_logits, reference.objectness_logits)


def test_focal_without_focus_is_the_cross_entropy_of_all_anchors_per_positive(
    rcnn_cfg, input_shape, images, features, make_targets
):
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = "focal"
    rcnn_cfg.MODEL.MTL.RPN.FOCAL_GAMMA = 0.0
    rcnn_cfg.MODEL.MTL.RPN.FOCAL_ALPHA = -1.0
    rpn = build(rcnn_cfg, input_shape)
    targets = [make_targets(*BOXES), make_targets(*BOXES[:1])]
    losses = run(rpn, images, features, targets)[1]
    levels = [features["p2"], features["p3"]]
    labels = torch.stack(rpn.label_and_sample_anchors(rpn.anchor_generator(levels), targets)[0])
    logits = torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in rpn.rpn_head(levels)[0]], 1)
    assert (labels == 0).sum() > 256  # more than Detectron2 samples for each image
    valid = labels >= 0
    total = F.binary_cross_entropy_with_logits(logits[valid], labels[valid].float(), reduction="sum")
    assert torch.allclose(losses["loss_rpn_cls"], total / (labels == 1).sum())


def test_the_sample_of_anchors_has_the_size_and_at_most_the_positives_that_the_config_says(
    rcnn_cfg, input_shape, features, make_targets
):
    # Boxes on a grid of 16 pixels: far more positive anchors than are sampled.
    boxes = [[float(x), float(y), x + 16.0, y + 16.0] for x in range(0, 48, 16) for y in range(0, 48, 16)]
    for size, fraction in ((12, 0.5), (12, 0.25), (7, 0.0)):
        rcnn_cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE, rcnn_cfg.MODEL.RPN.POSITIVE_FRACTION = size, fraction
        rpn = build(rcnn_cfg, input_shape)
        anchors = rpn.anchor_generator([features["p2"], features["p3"]])
        (labels,) = rpn.label_and_sample_anchors(anchors, [make_targets(*boxes)])[0]
        assert ((labels == 1).sum(), (labels == 0).sum()) == (int(size * fraction), size - int(size * fraction))


def test_focal_starts_at_the_prior(rcnn_cfg, input_shape):
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = "focal"
    bias = build(rcnn_cfg, input_shape).rpn_head.objectness_logits.bias
    assert torch.allclose(bias.sigmoid(), torch.tensor(0.01))


@pytest.mark.parametrize("objectness", ["ce", "focal"])
def test_the_iou_loss_of_undecided_deltas_is_that_of_the_anchors(
    rcnn_cfg, input_shape, images, features, make_targets, objectness
):
    rcnn_cfg.MODEL.RPN.BBOX_REG_LOSS_TYPE = "iou"
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = objectness
    rpn = build(rcnn_cfg, input_shape)
    torch.nn.init.zeros_(rpn.rpn_head.anchor_deltas.weight)
    targets = [make_targets(*BOXES), make_targets()]
    anchors = Boxes.cat(rpn.anchor_generator([features["p2"], features["p3"]])).tensor
    torch.manual_seed(1)
    labels, matched = rpn.label_and_sample_anchors([Boxes(anchors)], targets)
    positive = labels[0] == 1
    expected = (1 - box_iou(anchors[positive], matched[0][positive]).diagonal()).sum()
    losses = run(rpn, images, features, targets)[1]
    normalizer = 2 * rpn.batch_size_per_image if objectness == "ce" else positive.sum()
    assert torch.allclose(losses["loss_rpn_loc"], expected / normalizer, rtol=1e-4)


def test_the_objectness_loss_does_not_depend_on_the_box_loss(rcnn_cfg, input_shape, images, features, make_targets):
    targets = [make_targets(*BOXES), make_targets()]
    losses = {}
    for box_loss in ("giou", "iou"):
        rcnn_cfg.MODEL.RPN.BBOX_REG_LOSS_TYPE = box_loss
        losses[box_loss] = run(build(rcnn_cfg, input_shape), images, features, targets)[1]["loss_rpn_cls"]
    assert losses["giou"] == losses["iou"]


@pytest.mark.parametrize("objectness", ["ce", "focal"])
@pytest.mark.parametrize("box_loss", ["smooth_l1", "iou"])
def test_without_a_box_every_loss_is_finite_and_attached(
    rcnn_cfg, input_shape, images, features, make_targets, objectness, box_loss
):
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = objectness
    rcnn_cfg.MODEL.RPN.BBOX_REG_LOSS_TYPE = box_loss
    rpn = build(rcnn_cfg, input_shape)
    losses = run(rpn, images, features, [make_targets(), make_targets()])[1]
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    assert losses["loss_rpn_loc"] == 0
    assert all(parameter.grad.isfinite().all() for parameter in rpn.parameters())


def test_the_order_of_the_images_does_not_matter_to_the_focal_loss(
    rcnn_cfg, input_shape, images, features, make_targets
):
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = "focal"
    rpn = build(rcnn_cfg, input_shape)
    targets = [make_targets(*BOXES), make_targets(*BOXES[:1])]
    losses = run(rpn, images, features, targets)[1]
    flipped = run(rpn, images, {name: x.flip(0) for name, x in features.items()}, targets[::-1])[1]
    assert all(torch.allclose(losses[name], flipped[name]) for name in LOSSES)


@pytest.mark.parametrize("objectness", ["ce", "focal"])
def test_under_autocast_losses_and_proposals_are_float32(
    rcnn_cfg, input_shape, images, features, make_targets, objectness
):
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = objectness
    rpn = build(rcnn_cfg, input_shape)
    with torch.autocast("cpu", torch.bfloat16):
        half = {name: x.bfloat16() for name, x in features.items()}
        proposals, losses = run(rpn, images, half, [make_targets(*BOXES), make_targets()])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert proposals[0].proposal_boxes.tensor.dtype == torch.float32
    assert proposals[0].objectness_logits.dtype == torch.float32


@pytest.mark.parametrize("objectness", ["ce", "focal"])
@pytest.mark.parametrize("box_loss", ["smooth_l1", "iou"])
def test_half_precision_predictions_are_summed_in_float32(
    rcnn_cfg, input_shape, features, make_targets, objectness, box_loss
):
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = objectness
    rcnn_cfg.MODEL.RPN.BBOX_REG_LOSS_TYPE = box_loss
    rpn = build(rcnn_cfg, input_shape)
    anchors = rpn.anchor_generator([features["p2"], features["p3"]])
    labels, matched = rpn.label_and_sample_anchors(anchors, [make_targets(*BOXES)])
    logits = [torch.randn(1, len(a)).bfloat16() for a in anchors]
    deltas = [torch.randn(1, len(a), 4).bfloat16() for a in anchors]
    with EventStorage():
        half = rpn.losses(anchors, logits, labels, deltas, matched)
        full = rpn.losses(anchors, [x.float() for x in logits], labels, [x.float() for x in deltas], matched)
    assert half == full and {loss.dtype for loss in half.values()} == {torch.float32}


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou", "ciou", "iou"])
@pytest.mark.parametrize("objectness", ["ce", "focal"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_feature_that_is_not_finite_is_a_loss_that_is_not(
    rcnn_cfg, input_shape, images, features, make_targets, box_loss, objectness, value
):
    """Detectron2's raises an error or fails at an assertion, which would end a run instead of skipping its step."""
    rcnn_cfg.MODEL.RPN.BBOX_REG_LOSS_TYPE, rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = box_loss, objectness
    rpn, targets = build(rcnn_cfg, input_shape), [make_targets(*BOXES), make_targets()]
    proposals, losses = run(rpn, images, {name: x * value for name, x in features.items()}, targets)
    assert not any(loss.isfinite() for loss in losses.values())
    assert [len(p) for p in proposals] == [0, 0]
    one = {name: torch.cat([x[:1], x[1:] * value]) for name, x in features.items()}
    (whole, broken), losses = run(rpn, images, one, targets)
    assert len(whole) > 0 and len(broken) == 0 and not losses["loss_rpn_cls"].isfinite()


def test_an_unknown_loss_is_an_error_that_names_the_key(rcnn_cfg, input_shape):
    rcnn_cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS = "hinge"
    with pytest.raises(ValueError, match=r"MODEL.MTL.RPN.OBJECTNESS_LOSS is 'hinge'"):
        build(rcnn_cfg, input_shape)


def weighted(cfg, input_shape, weight, objectness="ce"):
    cfg.MODEL.MTL.RPN.OBJECTNESS_LOSS, cfg.MODEL.MTL.RPN.POSITIVE_WEIGHT = objectness, weight
    return build(cfg, input_shape)


@pytest.mark.parametrize("objectness", ["ce", "focal"])
def test_positive_anchors_count_as_often_as_their_weight_says(
    rcnn_cfg, input_shape, images, features, make_targets, objectness
):
    targets = [make_targets(*BOXES), make_targets()]
    losses = {
        weight: run(weighted(rcnn_cfg, input_shape, weight, objectness), images, features, targets)[1]
        for weight in (1.0, 2.0, 5.0)
    }
    positives = losses[2.0]["loss_rpn_cls"] - losses[1.0]["loss_rpn_cls"]
    assert positives > 0
    torch.testing.assert_close(losses[5.0]["loss_rpn_cls"], losses[1.0]["loss_rpn_cls"] + 4 * positives)
    torch.testing.assert_close(losses[5.0]["loss_rpn_loc"], losses[1.0]["loss_rpn_loc"])


def test_the_weighted_objectness_is_torchs_cross_entropy_with_that_positive_weight(
    rcnn_cfg, input_shape, images, features, make_targets
):
    rpn = weighted(rcnn_cfg, input_shape, 3.0)
    targets = [make_targets(*BOXES), make_targets(*BOXES[:1])]
    losses = run(rpn, images, features, targets)[1]
    levels = [features["p2"], features["p3"]]
    torch.manual_seed(1)
    labels = torch.stack(rpn.label_and_sample_anchors(rpn.anchor_generator(levels), targets)[0])
    logits = torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in rpn.rpn_head(levels)[0]], 1)
    valid = labels >= 0
    expected = F.binary_cross_entropy_with_logits(
        logits[valid], labels[valid].float(), pos_weight=torch.tensor(3.0), reduction="sum"
    )
    torch.testing.assert_close(losses["loss_rpn_cls"], expected / (2 * rpn.batch_size_per_image))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_positive_weight_out_of_range_is_named(rcnn_cfg, input_shape, value):
    with pytest.raises(ValueError, match=f"MODEL.MTL.RPN.POSITIVE_WEIGHT is {value}, expected a finite number above 0"):
        weighted(rcnn_cfg, input_shape, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("FOCAL_GAMMA", -1.0), ("FOCAL_GAMMA", float("nan")), ("FOCAL_ALPHA", 1.0), ("FOCAL_ALPHA", 25.0)],
)
def test_an_option_of_focal_out_of_range_is_named(rcnn_cfg, input_shape, key, value):
    rcnn_cfg.MODEL.MTL.RPN[key] = value
    weighted(rcnn_cfg, input_shape, 1.0)  # cross-entropy does not read it
    with pytest.raises(ValueError, match=f"MODEL.MTL.RPN.{key} is {value}, expected "):
        weighted(rcnn_cfg, input_shape, 1.0, objectness="focal")
