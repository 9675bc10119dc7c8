"""Image classification as a task of the joint network: alone, beside others, trained and scored."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2.engine import run, setup_cfg
from mtl_d2.engine.class_weights import with_class_weights
from mtl_d2.testing import ALL_TASKS, random_batched_inputs, tiny_cfg, toy_dataset

TASKS = (*ALL_TASKS, "classification")
WEIGHTS = "MODEL.MTL.CLASSIFICATION_HEAD.CLASS_WEIGHTS"


def make_model(tasks=TASKS, **overrides):
    torch.manual_seed(0)
    return build_model(tiny_cfg(tasks, **overrides))


def losses_of(model, inputs):
    with EventStorage():
        return model(inputs)


def test_inference_of_the_task_alone_gives_probabilities_and_runs_no_other_head(monkeypatch):
    model, inputs = make_model().eval(), random_batched_inputs(3)
    expected = [answer["image_labels"] for answer in model(inputs)]
    for head in (model.proposal_generator, model.roi_heads, model.sem_seg_head, model.edge_head):
        monkeypatch.setattr(head, "forward", lambda *_: pytest.fail("was run"))
    found = model.inference(inputs, tasks=("classification",))
    assert [set(answer) for answer in found] == [{"image_labels"}] * 3
    for answer, probabilities in zip(found, expected, strict=True):
        assert torch.equal(answer["image_labels"], probabilities) and probabilities.shape == (2,)
        assert ((probabilities > 0) & (probabilities < 1)).all()


def test_the_answer_does_not_depend_on_the_resolution_that_is_asked_for():
    model, inputs = make_model(("classification",)).eval(), random_batched_inputs(1)
    larger = [{**inputs[0], "height": 500, "width": 300}]
    assert torch.equal(model(inputs)[0]["image_labels"], model(larger)[0]["image_labels"])


def test_an_unknown_label_is_no_label_and_the_gradient_stays_finite():
    model = make_model(("classification",))
    inputs = random_batched_inputs(2, tasks=("classification",), sizes=((64, 64),))
    known = losses_of(model, inputs)["loss_classification"]
    inputs[1]["image_labels"] = torch.full((2,), -1.0)
    half = losses_of(model, inputs)["loss_classification"]
    assert not torch.equal(half, known)
    torch.testing.assert_close(half, losses_of(model, inputs[:1])["loss_classification"], rtol=1e-4, atol=1e-5)
    inputs[0]["image_labels"] = inputs[1]["image_labels"]
    nothing = losses_of(model, inputs)["loss_classification"]
    nothing.backward()
    assert nothing == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.classification_head.parameters())


def test_some_steps_learn_the_labels_of_two_images():
    model = make_model(("classification",), **{"MODEL.MTL.CLASSIFICATION_HEAD.POOLING": "avg_max"})
    inputs = random_batched_inputs(2, tasks=("classification",), num_instances=[0, 3], sizes=((64, 64),))
    inputs[0]["image_labels"], inputs[1]["image_labels"] = torch.tensor([0.0, 1]), torch.tensor([1.0, 0])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(8):
        optimizer.zero_grad()
        losses_of(model, inputs)["loss_classification"].backward()
        optimizer.step()
    for image_input, answer in zip(inputs, model.eval()(inputs), strict=True):
        assert torch.equal((answer["image_labels"] > 0.5).float(), image_input["image_labels"])


def test_a_run_is_scored_recorded_and_resumed(tmp_path: Path):
    labels = [("instance", "sem_seg", "classification")] * 3 + [("sem_seg",)]
    with toy_dataset(4, labels=labels) as name:
        options = {"OUTPUT_DIR": str(tmp_path), "INPUT.MTL.IMAGE_LABELS": "instances", "SOLVER.MAX_ITER": 2}
        cfg = tiny_cfg(("sem_seg", "classification"), name, **{**options, "TEST.MTL.PER_IMAGE": True})
        results = run.train(cfg)
        record = json.loads((tmp_path / "report.json").read_text())
        assert record["images"] == {"sem_seg": 4, "classification": 3}
        assert 0 <= results["classification"]["mAP"] <= 100
        assert record["results"]["classification"]["mAP"] == pytest.approx(results["classification"]["mAP"])
        assert (tmp_path / "inference" / name / "per_image" / "classification.npz").is_file()
        cfg.SOLVER.MAX_ITER = 3
        assert "classification" in run.train(cfg, resume=True)
        assert json.loads((tmp_path / "report.json").read_text())["iterations"] == 3


@pytest.mark.parametrize("source", ["given", "instances", "sem_seg"])
def test_class_weights_are_counted_in_images(source, tmp_path: Path, caplog):
    count = 4 if source == "sem_seg" else 2
    options = {WEIGHTS: "inverse", "INPUT.MTL.IMAGE_LABELS": source, "OUTPUT_DIR": str(tmp_path)}
    options["MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES"] = count
    with toy_dataset(5, labels=("instance", "sem_seg", "classification"), seed=1) as name:
        resolved = with_class_weights(tiny_cfg(("classification",), name, **options))
    images = json.loads((tmp_path / "class_counts.json").read_text())["counts"]["classification"][1]
    weights = resolved.MODEL.MTL.CLASSIFICATION_HEAD.CLASS_WEIGHTS
    assert len(set(images)) > 1 and sum(weights) == pytest.approx(count)
    assert [w * n for w, n in zip(weights, images, strict=True)] == pytest.approx([weights[0] * images[0]] * count)


def test_the_leaf_config_is_of_this_task_alone():
    cfg = setup_cfg("configs/shapes/classification.yaml")
    assert cfg.MODEL.MTL.TASKS == ["classification"] and cfg.INPUT.MTL.IMAGE_LABELS == "instances"
    assert "classification" in cfg.SOLVER.MTL.PARTS
