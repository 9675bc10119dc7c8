"""The keypoint head on given regions is Detectron2's; without a keypoint there is a zero with a gradient."""

import pytest
import torch
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead, StandardROIHeads
from detectron2.modeling.roi_heads.keypoint_head import keypoint_rcnn_loss
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

from mtl_d2.modeling.roi_heads import (
    MultiTaskROIHeads,
    build_keypoint_head,
    keypoint_losses,
    predict_keypoints,
    sample_keypoint_regions,
)
from mtl_d2.modeling.rpn import MultiTaskRPN

SIZE = (64, 64)


@pytest.fixture
def keypoint_cfg(rcnn_cfg):
    rcnn_cfg.MODEL.MASK_ON = False
    head = rcnn_cfg.MODEL.ROI_KEYPOINT_HEAD
    head.NUM_KEYPOINTS, head.CONV_DIMS, head.POOLER_RESOLUTION = 3, [8], 7
    return rcnn_cfg


@pytest.fixture
def targets():
    boxes = torch.tensor([[4.0, 4, 40, 30], [20, 24, 60, 60]])
    points = torch.tensor([[[10.0, 10, 2], [35, 20, 1], [0, 0, 0]], [[0, 0, 0], [30, 50, 2], [1, 1, 2]]])
    one = Instances(SIZE, gt_boxes=Boxes(boxes), gt_classes=torch.tensor([0, 2]), gt_keypoints=Keypoints(points))
    return [one, one[:1]]


@pytest.fixture
def proposals():
    generator = torch.Generator().manual_seed(3)
    near = torch.tensor([[4.0, 4, 40, 30], [20, 24, 60, 60]]).repeat(8, 1)
    near += torch.randn(near.shape, generator=generator)
    far = torch.tensor([[0.0, 0, 9, 9]]).repeat(4, 1)
    boxes = torch.cat([near, far]).clamp(0, 64)
    return [
        Instances(SIZE, proposal_boxes=Boxes(boxes.clone()), objectness_logits=torch.zeros(len(boxes)))
        for _ in range(2)
    ]


def _parts(cfg, input_shape):
    torch.manual_seed(0)
    parts = build_keypoint_head(cfg, input_shape)
    return parts["keypoint_head"], parts["keypoint_pooler"]


@pytest.mark.parametrize("by_visible", [True, False])
def test_regions_and_loss_are_those_of_detectron2(  # noqa: PLR0917
    keypoint_cfg, input_shape, features, targets, proposals, by_visible
):
    keypoint_cfg.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = by_visible
    head, pooler = _parts(keypoint_cfg, input_shape)
    ours = MultiTaskROIHeads(keypoint_cfg, input_shape)
    keypoint_cfg.MODEL.KEYPOINT_ON = True
    theirs = StandardROIHeads(keypoint_cfg, input_shape)
    theirs.keypoint_head.load_state_dict(head.state_dict())
    with EventStorage():
        torch.manual_seed(1)
        expected = theirs._forward_keypoint(features, theirs.label_and_sample_proposals(proposals, targets))
        torch.manual_seed(1)
        regions = sample_keypoint_regions(ours, proposals, targets)
        loss = keypoint_losses(head, pooler, [features["p2"], features["p3"]], regions)
    assert sum(map(len, regions)) > 4
    assert loss.keys() == expected.keys() and torch.equal(loss["loss_keypoint"], expected["loss_keypoint"])
    assert loss["loss_keypoint"] > 0


def test_loss_is_the_cross_entropy_over_the_cells(keypoint_cfg, input_shape, features, targets):
    """One region, whose box has the keypoints (10, 10) and (35, 20) in cells of 36/28 x 26/28 pixels."""
    head, pooler = _parts(keypoint_cfg, input_shape)
    region = Instances(SIZE, proposal_boxes=targets[1].gt_boxes, gt_keypoints=targets[1].gt_keypoints)
    levels = [features["p2"][:1], features["p3"][:1]]
    loss = keypoint_losses(head, pooler, levels, [region])["loss_keypoint"]
    logits = head.layers(pooler(levels, [region.proposal_boxes]))[0]
    side = logits.shape[-1]
    cells = [(int((y - 4) * side / 26), int((x - 4) * side / 36)) for x, y in ((10, 10), (35, 20))]
    expected = [-logits[k].flatten().log_softmax(0).unflatten(0, (side, side))[cell] for k, cell in enumerate(cells)]
    assert side == 28
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    assert torch.equal(loss, keypoint_rcnn_loss(logits[None], [region], None))


@pytest.mark.parametrize("bad", [0.0, float("inf"), float("nan")])
def test_without_a_visible_keypoint_the_loss_is_a_zero_with_a_gradient(  # noqa: PLR0917
    keypoint_cfg, input_shape, features, targets, proposals, bad
):
    head, pooler = _parts(keypoint_cfg, input_shape)
    for target in targets:
        target.gt_keypoints.tensor[..., 2] = 0
    with EventStorage():
        regions = sample_keypoint_regions(MultiTaskROIHeads(keypoint_cfg, input_shape), proposals, targets)
    levels = [(features[name].detach() + bad).requires_grad_() for name in ("p2", "p3")]
    loss = keypoint_losses(head, pooler, levels, regions)["loss_keypoint"]
    loss.backward()
    assert loss == 0 and not any(len(r) for r in regions)
    assert all((x.grad == 0).all() for x in (*head.parameters(), *levels))


def test_an_image_without_objects_has_no_region(keypoint_cfg, input_shape, features, targets, proposals):
    with EventStorage() as storage:
        regions = sample_keypoint_regions(
            MultiTaskROIHeads(keypoint_cfg, input_shape), proposals, [targets[0], targets[1][:0]]
        )
        counted = storage.latest()["keypoint_head/num_fg_samples"][0]
    assert len(regions[0]) > 0 and len(regions[1]) == 0 and counted == len(regions[0]) / 2


def test_with_hard_examples_the_sample_is_no_larger(keypoint_cfg, input_shape, targets, proposals):
    keypoint_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    keypoint_cfg.MODEL.MTL.ROI_HEADS.OHEM.ENABLED = True
    with EventStorage():
        regions = sample_keypoint_regions(MultiTaskROIHeads(keypoint_cfg, input_shape), proposals, targets)
    assert [len(r) for r in regions] == [2, 2]  # a quarter of 8


def test_proposals_are_those_of_a_training_step(keypoint_cfg, input_shape, features, images, targets):
    torch.manual_seed(0)
    rpn = MultiTaskRPN(keypoint_cfg, input_shape)
    with EventStorage():
        expected, _ = rpn(images, features, targets)
    state = torch.get_rng_state()
    found = rpn.propose(images, features)
    assert torch.equal(torch.get_rng_state(), state) and all(module.training for module in rpn.modules())
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.proposal_boxes.tensor, theirs.proposal_boxes.tensor) and len(ours) > 0


def test_a_keypoint_is_found_where_its_heatmap_is_highest(keypoint_cfg, input_shape, features):
    head, pooler = _parts(keypoint_cfg, input_shape)
    heat = torch.full((1, 3, 28, 28), -5.0)
    heat[0, :, 7, 14] = 20.0
    head.layers = lambda pooled: heat
    boxes = Boxes(torch.tensor([[8.0, 8.0, 36.0, 36.0]]))  # 28 pixels: a cell is a pixel
    found = Instances(SIZE, pred_boxes=boxes, scores=torch.ones(1), pred_classes=torch.zeros(1, dtype=torch.long))
    levels = [features["p2"], features["p3"]]
    first, second = predict_keypoints(head, pooler, levels, [found, found[:0]])
    torch.testing.assert_close(first.pred_keypoints[0, :, :2], torch.tensor([[22.5, 15.5]] * 3))
    assert (first.pred_keypoints[..., 2] > 0.9).all() and second.pred_keypoints.shape == (0, 3, 3)
    assert not found.has("pred_keypoints") and first.pred_boxes is not found.pred_boxes


def test_a_head_without_logits_is_refused(keypoint_cfg, input_shape, monkeypatch):
    keypoint_cfg.MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE = ""
    monkeypatch.setattr(KRCNNConvDeconvUpsampleHead, "__init__", lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match="ROI_KEYPOINT_HEAD.POOLER_TYPE is empty: expected one such as"):
        build_keypoint_head(keypoint_cfg, input_shape)
