"""The joint network: equality with Detectron2, partial labels, subsets of tasks, inference of some tasks."""

import copy
from itertools import chain, combinations
from unittest import mock

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import mtl_d2
from mtl_d2.balancing import FixedBalancer
from mtl_d2.meta_arch import MultiTaskFPN
from mtl_d2.testing import ALL_TASKS, random_batched_inputs, tiny_cfg

INSTANCE_LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
LOSSES = INSTANCE_LOSSES | {"loss_sem_seg", "loss_edge"}


def _model(tasks=ALL_TASKS, seed=0, **overrides):
    torch.manual_seed(seed)
    return build_model(tiny_cfg(tasks, **overrides))


def _losses(model, inputs, seed=3):
    torch.manual_seed(seed)
    with EventStorage():
        return model(inputs)


def _panoptic_fpn(seed=0):
    cfg = tiny_cfg(("instance", "sem_seg"))
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.PROPOSAL_GENERATOR.NAME", "RPN"),
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead"),
        ]
    )
    torch.manual_seed(seed)
    return build_model(cfg)


@pytest.fixture(scope="module")
def joint():
    return _model()


class TestParityWithPanopticFPN:
    def test_losses_and_gradients(self):
        reference, ours = _panoptic_fpn(), _model(("instance", "sem_seg"), seed=1)
        ours.load_state_dict(reference.state_dict())
        inputs = random_batched_inputs(2)
        expected, found = _losses(reference, inputs), _losses(ours, inputs)
        assert found.keys() == expected.keys()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6)
        sum(expected.values()).backward()
        sum(found.values()).backward()
        theirs = dict(reference.named_parameters())
        for name, p in ours.named_parameters():
            reference_grad = theirs[name].grad
            assert (p.grad - reference_grad).norm() <= 1e-5 * reference_grad.norm(), name

    def test_outputs(self):
        reference, ours = _panoptic_fpn().eval(), _model(("instance", "sem_seg"), seed=1).eval()
        ours.load_state_dict(reference.state_dict())
        inputs = random_batched_inputs(2)
        inputs[0].update(height=97, width=131)
        for model in (reference, ours):  # untrained scores are low: let instances into the panoptic map
            model.roi_heads.box_predictor.test_score_thresh = 0.0
        reference.combine_instances_score_thresh = 0.0
        ours.panoptic = type(ours.panoptic)(score_threshold=0.0)
        with torch.no_grad():
            expected, found = reference(inputs), ours(inputs)
        for theirs, mine in zip(expected, found, strict=True):
            assert len(theirs["instances"]) > 0
            torch.testing.assert_close(mine["sem_seg"], theirs["sem_seg"], rtol=0, atol=1e-6)
            for field, value in theirs["instances"].get_fields().items():
                got, wanted = (getattr(v, "tensor", v) for v in (mine["instances"].get(field), value))
                torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
            torch.testing.assert_close(mine["panoptic_seg"][0], theirs["panoptic_seg"][0])
            assert mine["panoptic_seg"][1] == theirs["panoptic_seg"][1]

    def test_its_checkpoint_lacks_the_edge_head_alone(self, joint):
        result = copy.deepcopy(joint).load_state_dict(_panoptic_fpn().state_dict(), strict=False)
        assert result.unexpected_keys == []
        assert result.missing_keys and all(key.startswith("edge_head.") for key in result.missing_keys)


class TestPartialLabels:
    """Absent is not empty: an unlabelled image is as if it were not in the task's batch."""

    @pytest.mark.parametrize("missing", ALL_TASKS)
    def test_loss_is_that_of_the_labelled_images_and_the_others_do_not_change(self, joint, missing):
        # One size, so that the padding of the batch does not depend on its images.
        full = random_batched_inputs(3, sizes=((64, 96),))
        partial = [dict(x) for x in full]
        key = joint.branches[missing].output_key
        del partial[1][key]
        everything, without = _losses(joint, full), _losses(joint, partial)
        alone = _losses(joint, [full[0], full[2]])
        for task, branch in joint.branches.items():
            for name in branch.loss_names:
                if task == missing:
                    torch.testing.assert_close(without[name], alone[name])
                else:
                    assert torch.equal(without[name], everything[name]), name

    def test_no_label_at_all_keeps_every_key_and_every_parameter_in_the_graph(self):
        model = _model()
        losses = _losses(model, random_batched_inputs(2, tasks=()))
        assert set(losses) == LOSSES
        assert all(loss.item() == 0 for loss in losses.values())
        sum(losses.values()).backward()
        for name, p in model.named_parameters():
            assert p.grad is not None and not p.grad.any(), name

    def test_zero_losses_survive_an_overflow_of_the_features(self):
        model = _model()
        inputs = random_batched_inputs(2, tasks=("sem_seg",))
        features = {k: torch.full_like(v, torch.inf) for k, v in _features(model, inputs).items()}
        with mock.patch.object(model, "extract_features", lambda batch: features):
            assert _losses(model, inputs)["loss_edge"].item() == 0

    def test_image_with_zero_instances_is_labelled(self, joint):
        losses = _losses(joint, random_batched_inputs(2, num_instances=0))
        assert losses["loss_rpn_cls"] > 0 and losses["loss_cls"] > 0
        assert losses["loss_box_reg"] == 0 and losses["loss_mask"] == 0

    def test_task_that_never_sees_a_label_raises(self):
        model = _model(**{"MODEL.MTL.LABEL_PATIENCE": 2})
        inputs = random_batched_inputs(1, tasks=("instance", "sem_seg"))
        _losses(model, inputs)
        with pytest.raises(RuntimeError, match="'edge' has seen no label for 2 batches"):
            _losses(model, inputs)

    def test_patience_of_0_is_without_end(self):
        model = _model(("edge",), **{"MODEL.MTL.LABEL_PATIENCE": 0})
        for inputs in (random_batched_inputs(1), *[random_batched_inputs(1, tasks=())] * 3):
            _losses(model, inputs)

    def test_one_label_resets_the_patience(self):
        model = _model(("edge",), **{"MODEL.MTL.LABEL_PATIENCE": 2})
        bare, labelled = random_batched_inputs(1, tasks=()), random_batched_inputs(1)
        for inputs in (bare, labelled, bare):
            _losses(model, inputs)


def _features(model, inputs):
    with torch.no_grad():
        return model.extract_features(model.preprocess(inputs))


@pytest.mark.parametrize("tasks", list(chain.from_iterable(combinations(ALL_TASKS, r) for r in (1, 2, 3))))
def test_any_subset_of_tasks_trains_and_answers(tasks):
    model = _model(tasks)
    inputs = random_batched_inputs(2)
    sum(_losses(model, inputs).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    keys = {model.branches[task].output_key for task in tasks}
    if {"instance", "sem_seg"} <= set(tasks):
        keys.add("panoptic_seg")
    for x, result in zip(inputs, model.eval()(inputs), strict=True):
        assert set(result) == keys
        if "edge" in tasks:
            assert result["edge"].shape == (x["height"], x["width"])
            assert result["edge"].min() >= 0 and result["edge"].max() <= 1
        if "sem_seg" in tasks:
            assert result["sem_seg"].shape[1:] == (x["height"], x["width"])


def test_without_masks_it_is_a_detector():
    model = _model(**{"MODEL.MASK_ON": False})
    inputs = random_batched_inputs(2, masks=False)
    assert set(_losses(model, inputs)) == LOSSES - {"loss_mask"}
    result = model.eval()(inputs)[0]
    assert set(result) == {"instances", "sem_seg", "edge"}
    assert not result["instances"].has("pred_masks")


def test_inference_of_one_task_runs_that_branch_alone(joint):
    model = copy.deepcopy(joint).eval()
    inputs = random_batched_inputs(1)
    expected = model(inputs)[0]["edge"]
    with (
        mock.patch.object(model.sem_seg_head, "forward", side_effect=AssertionError("not asked for")),
        mock.patch.object(model.proposal_generator, "forward", side_effect=AssertionError("not asked for")),
    ):
        (result,) = model.inference(inputs, tasks=("edge",))
    assert set(result) == {"edge"}
    assert torch.equal(result["edge"], expected)


def test_inference_computes_what_a_task_depends_on_and_returns_what_was_asked_for(joint):
    model = copy.deepcopy(joint).eval()
    seen = {}
    edge = model.branches["edge"]
    with (
        mock.patch.object(type(edge), "depends_on", ("sem_seg",)),
        mock.patch.object(edge, "inference", lambda f, b, outputs: seen.update(outputs) or [torch.zeros(1, 64, 96)]),
    ):
        (result,) = model.inference(random_batched_inputs(1), tasks=("edge",))
    assert set(seen) == {"sem_seg"}
    assert set(result) == {"edge"}


def test_unknown_task_in_inference_is_named(joint):
    with pytest.raises(ValueError, match="'depth' is not part of this network"):
        joint.inference(random_batched_inputs(1), tasks=("depth",))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"MODEL.MTL.TASKS": ["instance", "egde"]}, r"MODEL\.MTL\.TASKS names 'egde'.*'edge'"),
        ({"MODEL.MTL.TASKS": []}, r"MODEL\.MTL\.TASKS is empty"),
        ({"MODEL.MTL.TASKS": ["edge", "edge"]}, "twice"),
        ({"MODEL.MTL.SEM_SEG_HEAD.LOSS": "l2"}, r"MODEL\.MTL\.SEM_SEG_HEAD\.LOSS is 'l2'"),
        ({"MODEL.MTL.EDGE_HEAD.LOSS": "l2"}, r"MODEL\.MTL\.EDGE_HEAD\.LOSS is 'l2'"),
        ({"MODEL.MTL.EDGE_HEAD.STRIDE": 3}, r"MODEL\.MTL\.EDGE_HEAD\.STRIDE is 3"),
        ({"MODEL.MTL.EDGE_HEAD.IN_FEATURES": ["p1"]}, r"MODEL\.MTL\.EDGE_HEAD\.IN_FEATURES asks for \['p1'\]"),
    ],
)
def test_impossible_configs_name_their_key(overrides, message):
    with pytest.raises(ValueError, match=message):
        _model(**overrides)


@pytest.mark.parametrize("weighed", [("edge",), ("sem_seg", "edge", "depth")])
def test_a_balancer_of_other_tasks_is_refused(weighed):
    parts = MultiTaskFPN.from_config(tiny_cfg(("sem_seg", "edge")))
    parts["balancer"] = FixedBalancer(dict.fromkeys(weighed, 1.0))
    message = rf"weighs the tasks \{sorted(weighed)}.*the network has \['edge', 'sem_seg'\]"
    with pytest.raises(ValueError, match=message):
        MultiTaskFPN(**parts)


def test_panoptic_labels_are_the_first_of_equal_logits():
    logits = torch.randint(0, 3, (54, 33, 47), generator=torch.Generator().manual_seed(0)).float()
    with mock.patch.object(
        mtl_d2.modeling.panoptic_merge, "combine_panoptic", lambda instances, labels, **options: labels
    ):
        labels = mtl_d2.PanopticMerge()(None, logits)
    assert torch.equal(labels, logits.argmax(dim=0))


def test_panoptic_stuff_ids_come_from_the_metadata(joint):
    assert joint.panoptic.stuff_ids is None  # no dataset: Detectron2's rule
    from mtl_d2.testing import TOY_STUFF_IDS, toy_dataset

    with toy_dataset(1) as name:
        model = build_model(tiny_cfg(dataset=name))
    assert model.panoptic.stuff_ids == tuple(TOY_STUFF_IDS)


def test_balance_and_task_losses_are_logged():
    model = _model(**{"MODEL.MTL.BALANCER.WEIGHTS.edge": 0.5})
    with EventStorage() as storage:
        losses = model(random_batched_inputs(2))
        values = {name: value for name, (value, _) in storage.latest().items()}
    assert values["balance/edge"] == 0.5
    assert values["task/edge"] == pytest.approx(2 * losses["loss_edge"].item())
    assert values["task/instance"] == pytest.approx(sum(losses[k].item() for k in INSTANCE_LOSSES), rel=1e-5)
