"""Keypoints beside the other tasks: at Detectron2's place in the network, and without a trace in the others."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2.engine.parts import find_parts, parameters_of
from mtl_d2.engine.trainer import MultiTaskTrainer
from mtl_d2.testing import random_batched_inputs, tiny_cfg

TASKS = ("keypoint", "instance", "edge")  # it draws random numbers before the others
INSTANCE_LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(tiny_cfg(TASKS))


def _losses(model, inputs):
    model.train().zero_grad()
    torch.manual_seed(5)
    with EventStorage():
        losses = model(copy.deepcopy(inputs))
    sum(losses.values()).backward()
    return {name: loss.detach() for name, loss in losses.items()}


def _without(inputs, *keys):
    return [{key: value for key, value in x.items() if key not in keys} for x in inputs]


def _gradients(model, *tasks):
    owned = [m for task in tasks for m in model.branches[task].owned_modules.values()]
    return [p.grad.clone() for p in parameters_of(owned)]


def test_other_tasks_are_the_same_to_the_bit_without_keypoints(model):
    inputs = random_batched_inputs(2, tasks=TASKS)
    losses, gradients = _losses(model, inputs), _gradients(model, "instance", "edge")
    alone, of_alone = _losses(model, _without(inputs, "keypoints")), _gradients(model, "instance", "edge")
    assert losses.keys() == alone.keys() == {*INSTANCE_LOSSES, "loss_keypoint", "loss_edge"}
    assert losses["loss_keypoint"] > 0 and alone["loss_keypoint"] == 0
    assert all(torch.equal(losses[name], alone[name]) for name in {*INSTANCE_LOSSES, "loss_edge"})
    assert all(torch.equal(a, b) for a, b in zip(gradients, of_alone, strict=True))
    assert all((g == 0).all() for g in _gradients(model, "keypoint"))


def test_keypoints_train_their_head_and_the_backbone_alone(model):
    losses = _losses(model, random_batched_inputs(2, tasks=("instance", "keypoint")))
    model.zero_grad()
    with EventStorage():
        model(random_batched_inputs(2, tasks=("instance", "keypoint")))["loss_keypoint"].backward()
    assert losses["loss_keypoint"] > 0
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"backbone", "roi_heads"}
    assert all(p.grad is None for p in parameters_of(model.branches["instance"].owned_modules.values()))


def test_images_without_keypoints_take_no_part(model):
    some = random_batched_inputs(2, sizes=[(64, 96)], tasks=[("instance", "keypoint"), ("instance",)])
    whole, alone = _losses(model, some)["loss_keypoint"], _losses(model, some[:1])["loss_keypoint"]
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("num_instances", [0, [0, 2]])
def test_an_image_without_objects_is_labelled(model, num_instances):
    losses = _losses(model, random_batched_inputs(2, tasks=TASKS, num_instances=num_instances))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert (losses["loss_keypoint"] == 0) == (num_instances == 0)


def test_a_checkpoint_of_detectron2_has_the_same_names_and_shapes():
    cfg = tiny_cfg(("instance", "keypoint"))
    ours = build_model(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.KEYPOINT_ON = "GeneralizedRCNN", True
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.PROPOSAL_GENERATOR.NAME = "StandardROIHeads", "RPN"
    theirs = {name: value.shape for name, value in build_model(cfg).state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == theirs
    assert "roi_heads.keypoint_head.score_lowres.weight" in theirs


def test_each_parameter_is_of_one_part(model):
    parts = {part: set(parameters_of(modules)) for part, modules in find_parts(model).items()}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == len(list(model.parameters()))
    assert parts["keypoint"] == set(model.roi_heads.keypoint_head.parameters())


def test_the_task_needs_instances():
    with pytest.raises(ValueError, match=r"task 'keypoint' depends on \['instance'\]: add them to MODEL.MTL.TASKS"):
        build_model(tiny_cfg(("keypoint", "edge")))
    cfg = tiny_cfg(("instance", "keypoint"), **{"MODEL.PROPOSAL_GENERATOR.NAME": "RPN"})
    with pytest.raises(ValueError, match="MODEL.PROPOSAL_GENERATOR.NAME: RPN has no 'propose', which .* 'keypoint'"):
        build_model(cfg)


def test_keypoints_are_of_the_instance_branchs_detections_at_the_asked_resolution(model):
    x = random_batched_inputs(1, sizes=[(61, 83)])
    (small,) = model.eval()(x)
    found = small["instances"]
    assert len(found) > 0 and found.pred_keypoints.shape == (len(found), 3, 3) and found.has("pred_masks")
    (plain,) = model.inference(x, tasks=("instance",))
    assert not plain["instances"].has("pred_keypoints")
    assert torch.equal(plain["instances"].pred_boxes.tensor, found.pred_boxes.tensor)
    (large,) = model([{**x[0], "height": 122, "width": 249}])
    (alone,) = model.inference([{**x[0], "height": 122, "width": 249}], tasks=("keypoint",))
    scaled = found.pred_keypoints * torch.tensor([3.0, 2.0, 1.0])
    torch.testing.assert_close(large["instances"].pred_keypoints, scaled)
    assert torch.equal(large["instances"].pred_keypoints, alone["instances"].pred_keypoints)
    boxes = found.pred_boxes.tensor
    assert (found.pred_keypoints[..., 0] >= boxes[:, :1] - 1).all()
    assert (found.pred_keypoints[..., 0] <= boxes[:, 2:3] + 1).all()


def test_raw_outputs_of_both_tasks_keep_their_own_boxes(model):
    raw = model.eval().inference(random_batched_inputs(1), do_postprocess=False)
    first, second = raw["instance"][0], raw["keypoint"][0]
    assert first.pred_boxes is not second.pred_boxes and not first.has("pred_keypoints")


def test_separate_networks_answer_for_themselves():
    cfg = tiny_cfg(("keypoint", "instance"), **{"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"})
    model = build_model(cfg)
    with EventStorage():
        losses = model(random_batched_inputs(1, tasks=("instance", "keypoint")))
    assert {"loss_keypoint", "loss_mask", "keypoint.loss_mask"} <= set(losses)
    (answer,) = model.eval()(random_batched_inputs(1))
    assert answer["keypoint_instances"].has("pred_keypoints") and not answer["instances"].has("pred_keypoints")
    (alone,) = model.inference(random_batched_inputs(1), tasks=("keypoint",))
    assert alone["instances"].has("pred_keypoints")
    parts = parameters_of(find_parts(model)["keypoint"])
    assert set(model.network_of("keypoint").proposal_generator.parameters()) <= set(parts)


def test_keypoints_train_while_instances_are_idle(model):
    model.active_tasks = ("keypoint",)
    try:
        losses = _losses(model, random_batched_inputs(1, tasks=TASKS))
    finally:
        model.active_tasks = None
    assert losses.pop("loss_keypoint") > 0 and all(loss == 0 for loss in losses.values())


@pytest.mark.parametrize("balancer", ["gradnorm", "pcgrad", "uncertainty"])
def test_every_kind_of_balancer_takes_a_step(balancer):
    torch.manual_seed(0)
    model = build_model(tiny_cfg(("instance", "keypoint"), **{"MODEL.MTL.BALANCER.NAME": balancer}))
    before = [p.detach().clone() for p in model.parameters()]
    batch = random_batched_inputs(2, tasks=[("instance", "keypoint"), ("instance",)])
    trainer = MultiTaskTrainer(model, lambda start: iter([batch]), torch.optim.SGD(model.parameters(), 0.01), seed=1)
    trainer.train(0, 1)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    moved = {n for (n, p), old in zip(model.named_parameters(), before, strict=True) if not torch.equal(p, old)}
    assert {"roi_heads.keypoint_head.score_lowres.weight", "roi_heads.box_predictor.cls_score.weight"} <= moved
