"""Keypoint AP is COCO's, over the images that have keypoint labels."""

import contextlib
import io
import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mtl_d2.data.datasets.coco_format import load_coco_multitask
from mtl_d2.evaluation import KeypointEvaluator
from mtl_d2.evaluation.per_image import read_per_image

SIZE = (100, 120)
SIGMAS = (0.1, 0.05, 0.2)
NAMES = ["left", "right", "top"]


def _record(image_id, *annotations):
    record = {"file_name": f"{image_id}.jpg", "image_id": image_id, "height": SIZE[0], "width": SIZE[1]}
    return {**record, "annotations": list(annotations)}


def _object(box, keypoints=None, category=0, iscrowd=0, **keys):
    annotation = {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": category, "iscrowd": iscrowd, **keys}
    return annotation if keypoints is None else {**annotation, "keypoints": keypoints}


def _answer(points, scores=None, classes=None):
    points = torch.as_tensor(np.array(points, np.float32)).reshape(-1, 3, 3)
    count = len(points)
    instances = Instances(SIZE, pred_boxes=Boxes(torch.zeros(count, 4)), pred_keypoints=points)
    instances.scores = torch.ones(count) if scores is None else torch.tensor(scores)
    instances.pred_classes = torch.zeros(count, dtype=torch.long) if classes is None else torch.tensor(classes)
    return {"instances": instances}


def _evaluate(name, records, outputs, **options):
    evaluator = KeypointEvaluator(name, sigmas=SIGMAS, **options)
    for record, output in zip(records, outputs, strict=True):
        evaluator.process([record], [output])
    return evaluator, evaluator.evaluate()


@pytest.fixture
def scenes(register):
    """Random objects of two classes, one of which never has keypoints, and answers near them."""
    rng = np.random.default_rng(0)
    records, outputs = [], []
    for image_id in range(12):
        objects, points, classes = [], [], []
        for _ in range(rng.integers(0, 4)):
            x, y, width, height = rng.uniform([0, 0, 20, 20], [40, 30, 80, 70])
            keypoints = rng.uniform([x, y, 2], [x + width, y + height, 2], (3, 3))
            keypoints[rng.random(3) < 0.2] = 0
            own = {"area": width * height * rng.uniform(0.2, 0.9)} if objects else {}  # else the box's
            objects.append(_object([x, y, width, height], keypoints.flatten().tolist(), **own))
            points.append(keypoints + np.append(rng.normal(0, 6, (3, 2)), rng.random((3, 1)), axis=1))
            classes.append(0)
        if image_id % 3 == 0:
            objects.append(_object([50, 50, 30, 30], category=1))
            objects.append(_object([0, 0, 60, 60], iscrowd=1))
            points.append(rng.uniform(0, 60, (3, 3)))
            classes.append(int(rng.integers(0, 2)))
        records.append(_record(image_id, *objects))
        outputs.append(_answer(points, rng.random(len(points)).tolist(), classes))
    name = register(
        records, thing_classes=["a", "b"], keypoint_names=NAMES, thing_dataset_id_to_contiguous_id={3: 0, 7: 1}
    )
    return name, records, outputs


def _coco_of(records):
    """The json that such records are read from, with the ids of its own classes."""
    annotations = []
    for record in records:
        for a in record["annotations"]:
            points = [v - 0.5 * (i % 3 < 2) for i, v in enumerate(a.get("keypoints", [0.5, 0.5, 0] * 3))]
            seen = sum(v > 0 for v in points[2::3])
            own = {"id": len(annotations) + 1, "image_id": record["image_id"], "category_id": (3, 7)[a["category_id"]]}
            area = a.get("area", a["bbox"][2] * a["bbox"][3])
            shape = {"bbox": a["bbox"], "area": area, "iscrowd": a["iscrowd"]}
            annotations.append({**own, **shape, "keypoints": points, "num_keypoints": seen})
    images = [{"id": r["image_id"], "height": SIZE[0], "width": SIZE[1]} for r in records]
    return {"images": images, "annotations": annotations, "categories": [{"id": 3}, {"id": 7}]}


def _evaluate_with_coco(records, results):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _coco_of(records)
        truth.createIndex()
        coco_eval = COCOeval(truth, truth.loadRes(results), "keypoints")
        coco_eval.params.kpt_oks_sigmas = np.array(SIGMAS)
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval.stats


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
def test_figures_are_those_of_coco_from_the_results_file(scenes, tmp_path, backend):
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    name, records, outputs = scenes
    evaluator, results = _evaluate(name, records, outputs, output_dir=str(tmp_path), backend=backend)
    figures, written = results["keypoints"], json.loads((tmp_path / "coco_keypoints_results.json").read_text())
    stats = _evaluate_with_coco(records, written)
    expected = dict(zip(("AP", "AP50", "AP75", "APm", "APl", "AR"), stats, strict=False))
    expected = {key: 100 * value if value >= 0 else np.nan for key, value in expected.items()}
    assert {key: figures[key] for key in expected} == pytest.approx(expected, nan_ok=True)
    assert 5 < figures["AP"] < 95 and evaluator.num_images == 12 and np.isnan(figures["AP-b"])


def test_ap_counts_keypoints_that_are_near_enough(register):
    """Area 50 * 40 = 2000: at a distance d a keypoint of sigma s has exp(-d^2 / (8 s^2 2000)); s 0.1: 0.5 at 10.5."""
    truth = [30, 30, 2, 60, 30, 2, 0, 0, 0]
    records = [_record(0, _object([20, 20, 50, 40], truth))]
    name = register(records, thing_classes=["a"], keypoint_names=NAMES)
    for shift, similarity in ((0, 1.0), (10, (np.exp(-100 / 160) + 1) / 2), (30, (np.exp(-900 / 160) + 1) / 2)):
        moved = [[30 + shift, 30, 0.9], [60, 30, 0.1], [5, 5, 0.5]]
        _, results = _evaluate(name, records, [_answer([moved])])
        reached = (np.arange(0.5, 1, 0.05).round(2) <= similarity + 1e-9).mean()
        assert results["keypoints"]["AP"] == pytest.approx(100 * reached), shift


def test_similarity_is_by_the_area_that_the_json_gives_and_not_by_that_of_box_or_mask(register, tmp_path):
    """Area 500 in a box and mask of 2000: at 10 pixels a keypoint of sigma 0.1 has exp(-100 / (8 * 0.01 * 500))."""
    box, points = [20, 20, 50, 40], [30, 30, 2, 60, 30, 2, 0, 0, 0]
    own = {"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "bbox": box, "area": 500.0}
    own["segmentation"] = [[20, 20, 70, 20, 70, 60, 20, 60]]
    image = {"id": 1, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}
    content = {"images": [image], "annotations": [{**own, "keypoints": points}], "categories": [{"id": 3, "name": "a"}]}
    (tmp_path / "keypoints.json").write_text(json.dumps(content))
    records = load_coco_multitask(tmp_path / "keypoints.json", tmp_path)
    name = register(records, thing_classes=["a"], keypoint_names=NAMES)
    _, results = _evaluate(name, records, [_answer([[[40.5, 30.5, 1], [60.5, 30.5, 1], [5, 5, 1]]])])
    similarity = (np.exp(-100 / 40) + 1) / 2  # 0.541; by the box's area 0.768
    reached = (np.arange(0.5, 1, 0.05).round(2) <= similarity).mean()
    assert results["keypoints"]["AP"] == pytest.approx(100 * reached) == pytest.approx(10)
    assert np.isnan(results["keypoints"]["APm"])  # COCO's medium begins at 32 * 32, which the box alone reaches


def test_images_count_that_say_where_keypoints_are_and_where_none_is(register):
    truth = [30, 30, 2, 60, 30, 2, 0, 0, 0]
    wrong = _answer([[[1, 1, 1], [2, 2, 1], [3, 3, 1]]], scores=[0.9])
    records = [
        _record(0, _object([20, 20, 50, 40], truth)),
        _record(1),  # nothing there: what is found is wrong
        _record(2, _object([20, 20, 50, 40])),  # its keypoints are not known: no part
        {key: value for key, value in _record(3).items() if key != "annotations"},
        _record(4, _object([20, 20, 50, 40], category=1)),  # of a class without keypoints
    ]
    name = register(records, thing_classes=["a", "b"], keypoint_names=NAMES)
    right = _answer([np.reshape(truth, (3, 3))], scores=[0.8])
    evaluator, results = _evaluate(name, records, [right, wrong, wrong, wrong, wrong])
    assert evaluator.num_images == 3
    assert results["keypoints"]["AP"] == pytest.approx(100 / 3, abs=0.01)  # one right of three
    assert _evaluate(name, records[:1], [right])[1]["keypoints"]["AP"] == pytest.approx(100)


def test_answers_of_a_network_of_its_own_are_scored(register):
    truth = [30, 30, 2, 60, 30, 2, 0, 0, 0]
    records = [_record(0, _object([20, 20, 50, 40], truth))]
    name = register(records, thing_classes=["a"], keypoint_names=NAMES)
    own = {"instances": Instances(SIZE), "keypoint_instances": _answer([np.reshape(truth, (3, 3))])["instances"]}
    assert _evaluate(name, records, [own])[1]["keypoints"]["AP"] == pytest.approx(100)


def test_ranks_are_gathered(scenes, monkeypatch):
    name, records, outputs = scenes
    _, expected = _evaluate(name, records, outputs)
    first, second = (KeypointEvaluator(name, sigmas=SIGMAS) for _ in range(2))
    first.process(records[:5], outputs[:5])
    second.process(records[5:], outputs[5:])
    sent = []
    with monkeypatch.context() as patch:
        patch.setattr(comm, "gather", lambda data: sent.append(data) or [])
        patch.setattr(comm, "is_main_process", lambda: False)
        assert second.evaluate() == {}
    monkeypatch.setattr(comm, "gather", lambda data: [data, *sent])
    assert first.evaluate()["keypoints"] == pytest.approx(expected["keypoints"], nan_ok=True)
    assert first.num_images == 12


def test_statistics_of_each_image_give_the_figure_again(scenes, tmp_path):
    name, records, outputs = scenes
    _, results = _evaluate(name, records, outputs, output_dir=str(tmp_path), per_image=True)
    kept = read_per_image(tmp_path, "keypoints/AP")
    (figure,) = kept.figures(np.ones((1, len(kept.names)), int))
    assert figure == pytest.approx(results["keypoints"]["AP"])


def test_nothing_processed_is_undefined(scenes):
    evaluator = KeypointEvaluator(scenes[0], sigmas=SIGMAS)
    results = evaluator.evaluate()
    assert isinstance(results, OrderedDict) and np.isnan(results["keypoints"]["AP"]) and evaluator.num_images == 0


@pytest.mark.parametrize("sigmas", [(), (0.1, 0.1), (0.1, 0.1, -1)])
def test_sigmas_have_to_be_given(scenes, sigmas):
    with pytest.raises(ValueError, match="TEST.KEYPOINT_OKS_SIGMAS: found .* expected a number above 0 for each of 3"):
        KeypointEvaluator(scenes[0], sigmas=sigmas)


def test_another_number_of_keypoints_is_refused(scenes):
    name, records, _ = scenes
    answer = _answer(np.zeros((1, 3, 3)))
    answer["instances"].pred_keypoints = torch.zeros(1, 4, 3)
    with pytest.raises(ValueError, match="predicted 4 keypoints, but the dataset has 3; set MODEL.ROI_KEYPOINT_HEAD"):
        _evaluate(name, records[:1], [answer])
