"""Images without an object are negatives for the RPN and the ROI heads, all the way from the loader."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2.data import build_multitask_train_loader
from mtl_d2.testing import random_batched_inputs, tiny_cfg, toy_dataset

KEYS = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
FOCAL = {"MODEL.MTL.RPN.OBJECTNESS_LOSS": "focal", "MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS": "focal"}
HARD = {"MODEL.MTL.ROI_HEADS.OHEM.ENABLED": True}
WEIGHTS = {"MODEL.MTL.ROI_BOX_HEAD.CLASS_WEIGHTS": [2.0, 1.0, 0.5], "MODEL.MTL.RPN.POSITIVE_WEIGHT": 3.0}


def make_model(**overrides):
    torch.manual_seed(0)
    return build_model(tiny_cfg(("instance",), **overrides))


def losses_of(model, batch):
    torch.manual_seed(1)
    with EventStorage() as storage:
        return model(batch), {name: value for name, (value, _) in storage.latest().items()}


def has_gradient(module) -> bool:
    return any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize("options", [{}, FOCAL, HARD, WEIGHTS], ids=["default", "focal", "hard", "weights"])
def test_an_image_without_objects_trains_objectness_and_class_as_background_and_nothing_else(options):
    model = make_model(**options)
    losses, counts = losses_of(model, random_batched_inputs(2, num_instances=0, tasks=("instance",)))
    assert set(losses) == KEYS
    assert losses["loss_rpn_cls"] > 0 and losses["loss_cls"] > 0
    assert losses["loss_rpn_loc"] == losses["loss_box_reg"] == losses["loss_mask"] == 0
    assert counts["rpn/num_pos_anchors"] == counts["roi_head/num_fg_samples"] == 0
    assert counts["rpn/num_neg_anchors"] >= 32 and counts["roi_head/num_bg_samples"] == 16
    sum(losses.values()).backward()
    rpn, predictor = model.proposal_generator.rpn_head, model.roi_heads.box_predictor
    assert has_gradient(rpn.objectness_logits) and has_gradient(predictor.cls_score)
    assert not has_gradient(rpn.anchor_deltas) and not has_gradient(predictor.bbox_pred)
    assert not has_gradient(model.roi_heads.mask_head)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("options", [{}, FOCAL, HARD], ids=["default", "focal", "hard"])
def test_steps_on_them_lower_the_objectness_and_raise_the_background(options):
    model = make_model(**options)
    batch = random_batched_inputs(2, num_instances=0, tasks=("instance",))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    found = []
    for _ in range(6):
        losses, _ = losses_of(model, batch)
        found.append((losses["loss_rpn_cls"].item(), losses["loss_cls"].item()))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert found[-1][0] < found[0][0] and found[-1][1] < found[0][1]


@pytest.mark.parametrize("options", [{}, FOCAL, HARD, WEIGHTS], ids=["default", "focal", "hard", "weights"])
def test_half_a_batch_without_objects_is_finite(options):
    losses, counts = losses_of(make_model(**options), random_batched_inputs(2, num_instances=(0, 3)))
    assert all(loss.isfinite() for loss in losses.values()) and losses["loss_box_reg"] > 0
    assert counts["rpn/num_pos_anchors"] > 0


@pytest.mark.parametrize(("tasks", "filtered", "kept"), [(("instance",), True, 3), (("instance", "edge"), True, 4)])
def test_the_loader_keeps_them_unless_instances_are_the_only_task_and_the_key_says_so(tasks, filtered, kept):
    with toy_dataset(4) as name:  # the first image has no object
        for key, count in ((filtered, kept), (False, 4)):
            cfg = tiny_cfg(tasks, name, **{"DATALOADER.FILTER_EMPTY_ANNOTATIONS": key})
            loader = iter(build_multitask_train_loader(cfg))
            images = [x for _ in range(2 * count) for x in next(loader)]
            sizes = {x["image_id"]: len(x["instances"]) for x in images}
            assert len(sizes) == count and (0 in sizes) == (count == 4)
            assert sizes.get(0, 0) == 0 and all(n > 0 for i, n in sizes.items() if i)
