"""MultiTaskROIHeads: Detectron2's to the bit with full labels; partial labels and half precision beyond."""
# ruff: noqa: PLR0917, fixtures are positional

import pytest
import torch
from detectron2.modeling.roi_heads import build_roi_heads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torchvision.ops import box_iou

from mtl_d2.modeling import MultiTaskFastRCNNOutputLayers

SIZE = (64, 64)
BOXES = ([4.0, 4, 20, 20], [30.0, 24, 60, 60])
LOSSES = {"loss_cls", "loss_box_reg", "loss_mask"}


def build(cfg, input_shape, name="MultiTaskROIHeads"):
    cfg = cfg.clone()
    cfg.MODEL.ROI_HEADS.NAME = name
    torch.manual_seed(0)
    return build_roi_heads(cfg, input_shape)


def make_proposals(count: int = 40, seed: int = 0) -> Instances:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    proposals = Instances(SIZE)
    proposals.proposal_boxes = Boxes(
        torch.cat([corner, corner + 4 + 20 * torch.rand(count, 2, generator=generator)], 1)
    )
    proposals.objectness_logits = torch.zeros(count)
    return proposals


def train(heads, features, targets, count=40):
    torch.manual_seed(1)
    with EventStorage():
        return heads(None, features, [make_proposals(count, 0), make_proposals(count, 1)], targets)[1]


@pytest.mark.parametrize("mask_on", [True, False])
def test_full_labels_give_detectron2s_losses_to_the_bit(rcnn_cfg, input_shape, features, make_targets, mask_on):
    rcnn_cfg.MODEL.MASK_ON = mask_on
    ours, theirs = build(rcnn_cfg, input_shape), build(rcnn_cfg, input_shape, "StandardROIHeads")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    targets = [make_targets(*BOXES), make_targets(*BOXES[1:])]
    losses = train(ours, features, targets)
    assert losses == train(theirs, features, targets)
    assert set(losses) == (LOSSES if mask_on else LOSSES - {"loss_mask"})


def test_inference_is_detectron2s_to_the_bit(rcnn_cfg, input_shape, features):
    ours, theirs = build(rcnn_cfg, input_shape), build(rcnn_cfg, input_shape, "StandardROIHeads")
    theirs.load_state_dict(ours.state_dict())
    ours.eval(), theirs.eval()
    with torch.no_grad():
        proposals = [make_proposals(), make_proposals(0)]
        results = zip(ours(None, features, proposals)[0], theirs(None, features, proposals)[0], strict=True)
    for mine, reference in results:
        assert torch.equal(mine.pred_boxes.tensor, reference.pred_boxes.tensor)
        assert torch.equal(mine.scores, reference.scores)
        assert torch.equal(mine.pred_masks, reference.pred_masks)


@pytest.mark.parametrize("cls_loss", ["ce", "focal"])
@pytest.mark.parametrize("count", [0, 40], ids=["no proposal", "proposals"])
@pytest.mark.parametrize("boxes", [(), BOXES], ids=["no box", "boxes"])
@pytest.mark.parametrize("masks", [True, False])
def test_every_loss_is_finite_and_reaches_every_parameter(
    rcnn_cfg, input_shape, features, make_targets, cls_loss, count, boxes, masks
):
    rcnn_cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS = cls_loss
    heads = build(rcnn_cfg, input_shape)
    losses = train(heads, features, [make_targets(*boxes, masks=masks)] * 2, count)
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())
    if not masks or not boxes:
        assert losses["loss_mask"] == 0


@pytest.mark.parametrize("unmasked", [0, 1])
def test_an_image_without_masks_changes_the_mask_loss_alone(rcnn_cfg, input_shape, features, make_targets, unmasked):
    heads = build(rcnn_cfg, input_shape)
    full = [make_targets(*BOXES), make_targets(*BOXES)]
    partial = list(full)
    partial[unmasked] = make_targets(*BOXES, masks=False)
    losses, reference = train(heads, features, partial), train(heads, features, full)
    assert losses["loss_cls"] == reference["loss_cls"]
    assert losses["loss_box_reg"] == reference["loss_box_reg"]
    assert losses["loss_mask"] != reference["loss_mask"]


def test_the_mask_loss_is_that_of_the_images_with_masks(rcnn_cfg, input_shape, features, make_targets):
    heads = build(rcnn_cfg, input_shape)
    targets = [make_targets(*BOXES, masks=False), make_targets(*BOXES)]
    torch.manual_seed(1)
    with EventStorage():
        sampled = heads.label_and_sample_proposals([make_proposals(), make_proposals(seed=1)], targets)
        together = heads._forward_mask(features, sampled)["loss_mask"]
        alone = heads._forward_mask({name: x[1:] for name, x in features.items()}, sampled[1:])["loss_mask"]
    assert torch.equal(together, alone)


@pytest.mark.parametrize("cls_loss", ["ce", "focal"])
@pytest.mark.parametrize("autocast", [True, False])
def test_half_precision_features_give_float32_losses_and_results(
    rcnn_cfg, input_shape, features, make_targets, cls_loss, autocast
):
    rcnn_cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS = cls_loss
    heads = build(rcnn_cfg, input_shape)
    half = {name: x.bfloat16() for name, x in features.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = train(heads, half, [make_targets(*BOXES), make_targets(*BOXES)])
        heads.eval()
        with torch.no_grad():
            result = heads(None, half, [make_proposals(), make_proposals()])[0][0]
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert {result.scores.dtype, result.pred_boxes.tensor.dtype, result.pred_masks.dtype} == {torch.float32}


@pytest.mark.parametrize(("size", "fraction"), [(16, 0.25), (16, 0.5), (8, 0.25)])
def test_the_sample_of_regions_has_the_size_and_the_foreground_that_the_config_says(
    rcnn_cfg, input_shape, make_targets, size, fraction
):
    rcnn_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, rcnn_cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = size, fraction
    heads = build(rcnn_cfg, input_shape)
    proposals = make_proposals()
    proposals.proposal_boxes.tensor[:20] = torch.tensor(BOXES[0])  # half of them are an object's own box
    with EventStorage():
        (sampled,) = heads.label_and_sample_proposals([proposals], [make_targets(*BOXES)])
    assert len(sampled) == size
    assert (sampled.gt_classes < 3).sum() == size * fraction


def test_the_predictor_is_the_one_with_a_choice_of_losses(rcnn_cfg, input_shape):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = "iou"
    predictor = build(rcnn_cfg, input_shape).box_predictor
    assert isinstance(predictor, MultiTaskFastRCNNOutputLayers) and predictor.box_reg_loss_type == "iou"


def hard(cfg, input_shape, nms_thresh=0.7, count=8):
    cfg.MODEL.MTL.ROI_HEADS.OHEM.ENABLED, cfg.MODEL.MTL.ROI_HEADS.OHEM.NMS_THRESH = True, nms_thresh
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = count
    return build(cfg, input_shape)


def hardest_by_hand(boxes, losses, nms_thresh, count):
    """Greedy: the region of the largest loss, then the next that overlaps none of those by more than the threshold."""
    kept: list[int] = []
    ious = box_iou(boxes, boxes)
    for i in sorted(range(len(losses)), key=lambda i: -float(losses[i])):
        if len(kept) < count and all(ious[i, k] <= nms_thresh for k in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("nms_thresh", [1.0, 0.7, 0.3])
@pytest.mark.parametrize("cls_loss", ["ce", "focal"])
def test_hard_regions_are_those_of_a_reference_by_hand(
    rcnn_cfg, input_shape, features, make_targets, nms_thresh, cls_loss
):
    rcnn_cfg.MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS = cls_loss
    heads = hard(rcnn_cfg, input_shape, nms_thresh)
    targets = [make_targets(*BOXES), make_targets()]
    with EventStorage():
        regions = heads.label_and_sample_proposals([make_proposals(), make_proposals(seed=1)], targets)
        losses = heads._region_losses(features, regions).split([len(r) for r in regions])
        chosen, _ = heads(None, features, [make_proposals(), make_proposals(seed=1)], targets)
    assert [len(r) for r in regions] == [42, 40]  # all of them, and the ground truth
    for all_regions, loss, found in zip(regions, losses, chosen, strict=True):
        by_hand = hardest_by_hand(all_regions.proposal_boxes.tensor, loss, nms_thresh, 8)
        assert torch.equal(found.proposal_boxes.tensor, all_regions.proposal_boxes.tensor[by_hand])
        assert torch.equal(found.gt_classes, all_regions.gt_classes[by_hand])


def test_the_loss_by_which_regions_are_chosen_is_the_one_that_trains(rcnn_cfg, input_shape, features, make_targets):
    heads = hard(rcnn_cfg, input_shape, nms_thresh=1.0, count=10)
    targets = [make_targets(*BOXES), make_targets(*BOXES[1:])]
    proposals = [make_proposals(), make_proposals(seed=1)]
    with EventStorage() as storage:
        regions = heads.label_and_sample_proposals(proposals, targets)
        each = heads._region_losses(features, regions).split([len(r) for r in regions])
        chosen, losses = heads(None, features, proposals, targets)
        foreground = sum(int((r.gt_classes < 3).sum()) for r in chosen) / 2
        assert storage.latest()["roi_head/num_fg_samples"][0] == foreground
        assert storage.latest()["roi_head/num_bg_samples"][0] == 10 - foreground
    expected = torch.cat([x.sort(descending=True).values[:10] for x in each]).mean()
    torch.testing.assert_close((losses["loss_cls"] + losses["loss_box_reg"]).detach(), expected)


def test_what_is_never_labelled_is_never_hard(rcnn_cfg, input_shape, features, make_targets):
    rcnn_cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS, rcnn_cfg.MODEL.ROI_HEADS.IOU_LABELS = [0.1, 0.5], [0, -1, 1]
    heads = hard(rcnn_cfg, input_shape, nms_thresh=1.0, count=100)
    target = make_targets(*BOXES)
    with EventStorage():
        (found,) = heads.label_and_sample_proposals([make_proposals()], [target])
    best = box_iou(found.proposal_boxes.tensor, target.gt_boxes.tensor).max(1)
    assert ((best.values < 0.1) | (best.values >= 0.5)).all() and len(found) < 42
    expected = torch.where(best.values >= 0.5, target.gt_classes[best.indices], 3)
    assert torch.equal(found.gt_classes, expected)


@pytest.mark.parametrize("count", [0, 40], ids=["no proposal", "proposals"])
@pytest.mark.parametrize("boxes", [((), ()), ((), BOXES), (BOXES, BOXES)], ids=["empty", "half empty", "full"])
def test_hard_regions_reach_every_parameter(rcnn_cfg, input_shape, features, make_targets, count, boxes):
    heads = hard(rcnn_cfg, input_shape)
    losses = train(heads, features, [make_targets(*b) for b in boxes], count)
    assert set(losses) == LOSSES and heads.box_head.training
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())


def test_the_choice_of_regions_moves_no_running_statistic(rcnn_cfg, input_shape, features, make_targets):
    rcnn_cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, rcnn_cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = 1, 4
    rcnn_cfg.MODEL.ROI_BOX_HEAD.NORM = "BN"
    heads = hard(rcnn_cfg, input_shape)
    train(heads, features, [make_targets(*BOXES)] * 2)
    (tracked,) = (m.num_batches_tracked for m in heads.box_head.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert tracked == 1
    for module in heads.box_head.modules():  # as a schedule does that freezes the head
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
            train(heads, features, [make_targets(*BOXES)] * 2)
            assert not module.training and module.num_batches_tracked == 1 and heads.box_head.training


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_an_overlap_out_of_range_is_named(rcnn_cfg, input_shape, value):
    with pytest.raises(ValueError, match=f"ROI_HEADS.OHEM.NMS_THRESH is {value}, expected an IoU"):
        hard(rcnn_cfg, input_shape, nms_thresh=value)
