import copy
import json
import math

import numpy as np
import pytest
import torch
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances

from mtl_d2.evaluation import InstanceEvaluator
from tests.evaluation.conftest import annotation, rectangle

SIZE = (64, 64)


def _instances(masks, scores, classes=None, with_masks=True):
    masks = torch.as_tensor(np.array(masks, dtype=bool).reshape(-1, *SIZE))
    instances = Instances(SIZE)
    instances.pred_boxes = BitMasks(masks).get_bounding_boxes()
    instances.scores = torch.as_tensor(scores, dtype=torch.float32)
    instances.pred_classes = torch.as_tensor(classes if classes is not None else [0] * len(masks), dtype=torch.long)
    if with_masks:
        instances.pred_masks = masks
    return instances


def _record(image_id, annotations=None):
    record = {"file_name": f"{image_id}.png", "height": SIZE[0], "width": SIZE[1], "image_id": image_id}
    return record if annotations is None else {**record, "annotations": annotations}


def _evaluate(name, outputs, **kwargs):
    evaluator = InstanceEvaluator(name, **kwargs)
    for image_id, instances in outputs.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate(), evaluator


def _random_scene(rng, num_images=6, num_classes=3):
    records, outputs = [], {}
    for image_id in range(1, num_images + 1):
        annotations, masks, classes, scores = [], [], [], []
        for k in range(rng.integers(0, 6)):
            top, left = rng.integers(0, 40, 2)
            height, width = rng.integers(4, 45, 2)
            mask = rectangle(*SIZE, top, left, top + height, left + width)
            category = int(rng.integers(num_classes))
            annotations.append(annotation(mask, category, iscrowd=int(k == 4)))
            for _ in range(rng.integers(0, 3)):
                dy, dx = rng.integers(-3, 4, 2)
                masks.append(np.roll(mask, (dy, dx), (0, 1)))
                classes.append(category if rng.random() > 0.2 else int(rng.integers(num_classes)))
                scores.append(rng.random())
        records.append(_record(image_id, annotations))
        outputs[image_id] = _instances(masks, scores, classes)
    return records, outputs


def test_perfect_predictions_score_100(register):
    masks = [rectangle(*SIZE, 4, 4, 20, 20), rectangle(*SIZE, 30, 30, 60, 60)]
    name = register([_record(1, [annotation(m) for m in masks])], thing_classes=["thing"])
    results, evaluator = _evaluate(name, {1: _instances(masks, [0.9, 0.8])})
    for task in ("bbox", "segm"):
        assert results[task]["AP"] == results[task]["AR"] == results[task]["AP-thing"] == pytest.approx(100)
        assert results[task]["APs"] == pytest.approx(100)
        assert math.isnan(results[task]["APm"]) and math.isnan(results[task]["APl"])
    assert evaluator.num_images == evaluator.num_mask_images == 1


@pytest.mark.parametrize("max_dets", [3, 100, 400])
def test_faster_coco_eval_and_pycocotools_agree(register, max_dets):
    pytest.importorskip("faster_coco_eval")
    records, outputs = _random_scene(np.random.default_rng(max_dets))
    name = register(records, thing_classes=["a", "b", "c"], max_dets=max_dets)
    fast, _ = _evaluate(name, outputs, backend="faster-coco-eval")
    reference, _ = _evaluate(name, outputs, backend="pycocotools")
    assert 0 < reference["segm"]["AP"] < 100
    for task in ("bbox", "segm"):
        assert fast[task].keys() == reference[task].keys()
        np.testing.assert_allclose(list(fast[task].values()), list(reference[task].values()), atol=1e-9, rtol=0)


def test_equals_detectron2s_evaluator_at_100_detections(register, tmp_path):
    records, outputs = _random_scene(np.random.default_rng(7))
    name = register(records, thing_classes=["a", "b", "c"])
    ours, _ = _evaluate(name, outputs)
    theirs = COCOEvaluator(name, output_dir=str(tmp_path), use_fast_impl=False)
    theirs.reset()
    for image_id, instances in outputs.items():
        theirs.process([{"image_id": image_id}], [{"instances": copy.deepcopy(instances)}])
    expected = theirs.evaluate()
    for task in ("bbox", "segm"):
        for metric, value in expected[task].items():
            assert ours[task][metric] == pytest.approx(value, abs=1e-9, nan_ok=True), (task, metric)


def test_ap_at_400_detections_counts_beyond_the_100th(register):
    """125 objects, all found: COCO's usual 100 detections reach 80 % of them; AP at 400 must reach all."""
    masks = [rectangle(*SIZE, y, x, y + 3, x + 3) for y in range(0, 60, 4) for x in range(0, 56, 4)][:125]
    records = [_record(1, [annotation(m) for m in masks])]
    scores = np.linspace(0.9, 0.1, 125)
    for max_dets, recall in [(100, 80.0), (400, 100.0)]:
        for backend in ("pycocotools", None):
            name = register(records, thing_classes=["nucleus"], max_dets=max_dets)
            results, _ = _evaluate(name, {1: _instances(masks, scores)}, backend=backend)
            assert results["segm"]["AR"] == pytest.approx(recall)
            # Precision is 1 at every one of the 101 recalls up to the one reached.
            assert results["segm"]["AP"] == pytest.approx(100 * (81 / 101 if recall == 80 else 1))


def test_unlabelled_image_is_left_out_and_an_empty_one_counts(register):
    mask = rectangle(*SIZE, 4, 4, 20, 20)
    wrong = rectangle(*SIZE, 40, 40, 60, 60)
    labelled = _record(1, [annotation(mask)])
    for other, expected in [(_record(2), 100.0), (_record(2, []), 50.0)]:
        name = register([labelled, other], thing_classes=["thing"])
        # The false positive has the higher score: precision is 1/2 at every recall if its image counts.
        results, evaluator = _evaluate(name, {1: _instances([mask], [0.5]), 2: _instances([wrong], [0.9])})
        assert results["bbox"]["AP"] == pytest.approx(expected)
        assert evaluator.num_images == (1 if expected == 100 else 2)


@pytest.mark.parametrize("backend", ["pycocotools", None])
def test_no_detection_scores_zero(register, backend):
    name = register([_record(1, [annotation(rectangle(*SIZE, 4, 4, 20, 20))])], thing_classes=["thing"])
    results, _ = _evaluate(name, {1: _instances([], [])}, backend=backend)
    assert results["bbox"]["AP"] == results["bbox"]["AR"] == results["segm"]["AP50"] == 0
    assert math.isnan(results["bbox"]["APl"])


def test_nothing_processed_is_undefined_and_does_not_crash(register):
    name = register([_record(1, [annotation(rectangle(*SIZE, 4, 4, 20, 20))])], thing_classes=["thing"])
    results, evaluator = _evaluate(name, {})
    assert math.isnan(results["bbox"]["AP"]) and evaluator.num_images == 0


def test_boxes_without_masks_are_scored_for_boxes_only(register):
    mask = rectangle(*SIZE, 4, 4, 20, 20)
    box_only = {"bbox": [4, 4, 20, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    predictions = {1: _instances([mask], [0.9]), 2: _instances([mask], [0.9])}
    results, _ = _evaluate(register([_record(1, [box_only])], thing_classes=["thing"]), {1: predictions[1]})
    assert results.keys() == {"bbox"} and results["bbox"]["AP"] == pytest.approx(100)
    mixed = register([_record(1, [box_only]), _record(2, [annotation(mask)])], thing_classes=["thing"])
    results, evaluator = _evaluate(mixed, predictions)
    assert (evaluator.num_images, evaluator.num_mask_images) == (2, 1)
    assert results["segm"]["AP"] == pytest.approx(100)


def test_detection_in_a_crowd_is_no_false_positive(register):
    mask, crowd = rectangle(*SIZE, 4, 4, 20, 20), rectangle(*SIZE, 30, 0, 64, 64)
    inside = rectangle(*SIZE, 40, 40, 50, 50)
    name = register([_record(1, [annotation(mask), annotation(crowd, iscrowd=1)])], thing_classes=["thing"])
    results, _ = _evaluate(name, {1: _instances([mask, inside], [0.5, 0.9])})
    assert results["segm"]["AP"] == results["bbox"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_only_a_crowd_of_no_class_excuses_detections_of_every_class(register, class_agnostic):
    mask, crowd = rectangle(*SIZE, 4, 4, 20, 20), rectangle(*SIZE, 30, 0, 64, 64)
    inside = rectangle(*SIZE, 40, 40, 50, 50)
    region = {**annotation(crowd, 0, iscrowd=1), "class_agnostic": class_agnostic}
    name = register([_record(1, [annotation(mask, 1), region])], thing_classes=["x", "y"])
    results, _ = _evaluate(name, {1: _instances([mask, inside], [0.5, 0.9], [1, 1])})
    assert results["segm"]["AP"] == results["bbox"]["AP"] == pytest.approx(100 if class_agnostic else 50)


def test_written_detections_hold_the_datasets_category_ids(register, tmp_path):
    mask = rectangle(*SIZE, 4, 4, 20, 20)
    name = register(
        [_record("a", [annotation(mask, 1)])],
        thing_classes=["x", "y"],
        thing_dataset_id_to_contiguous_id={3: 0, 17: 1},
    )
    _evaluate(name, {"a": _instances([mask], [0.5], [1])}, output_dir=str(tmp_path))
    (written,) = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert (written["image_id"], written["category_id"], written["bbox"]) == ("a", 17, [4, 4, 16, 16])


def test_wrong_size_and_unknown_class_name_the_file(register):
    mask = rectangle(*SIZE, 4, 4, 20, 20)
    name = register([_record(1, [annotation(mask)])], thing_classes=["thing"])
    small = Instances((8, 8), pred_boxes=Boxes(torch.zeros(1, 4)), scores=torch.ones(1))
    small.pred_classes, small.pred_masks = (
        torch.zeros(1, dtype=torch.long),
        torch.zeros(1, 8, 8, dtype=torch.bool),
    )
    with pytest.raises(ValueError, match=r"1\.png.*\(8, 8\).*\(64, 64\)"):
        _evaluate(name, {1: small})
    with pytest.raises(ValueError, match=r"1\.png.*class 4.*NUM_CLASSES"):
        _evaluate(name, {1: _instances([mask], [0.5], [4])})


def test_written_curves_integrate_to_the_figures_of_the_report(register, tmp_path):
    """AP50 is the mean precision over COCO's 101 recalls and the classes that have ground truth."""
    records, outputs = _random_scene(np.random.default_rng(3))
    name = register(records, thing_classes=["a", "b", "c", "never there"])
    results, evaluator = _evaluate(name, outputs, output_dir=str(tmp_path))
    written = json.loads((tmp_path / "instance_pr.json").read_text())
    assert written == {"dataset": name, **evaluator.curves}
    assert written["recall"] == pytest.approx(np.linspace(0, 1, 101), abs=1e-15)
    for task in ("bbox", "segm"):
        for iou, figure in [("IoU=0.50", "AP50"), ("IoU=0.75", "AP75")]:
            curves = written[task][iou]
            assert 0 < results[task][figure] < 100
            assert 100 * np.mean(curves["mean"]) == pytest.approx(results[task][figure], abs=1e-10)
            assert curves["classes"].pop("never there") is None
            by_class = np.array([curves["classes"][k] for k in "abc"])
            assert by_class.mean(axis=0) == pytest.approx(curves["mean"], abs=1e-12)
            # Each class's own curve: what an evaluation of that class alone gives.
            for k, precision in enumerate(by_class):
                alone = [{**r, "annotations": [a for a in r["annotations"] if a["category_id"] == k]} for r in records]
                kept = {i: x[x.pred_classes == k] for i, x in outputs.items()}
                single, _ = _evaluate(register(alone, thing_classes=["a", "b", "c"]), kept)
                assert 100 * precision.mean() == pytest.approx(single[task][figure], abs=1e-10)


def test_curves_of_nothing_are_null(register, tmp_path):
    name = register([_record(1, [annotation(rectangle(*SIZE, 4, 4, 20, 20))])], thing_classes=["thing"])
    _evaluate(name, {}, output_dir=str(tmp_path))
    written = json.loads((tmp_path / "instance_pr.json").read_text())
    assert written["bbox"]["IoU=0.50"] == {"mean": None, "classes": {"thing": None}} and "segm" not in written
