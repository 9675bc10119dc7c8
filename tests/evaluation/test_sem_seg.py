import math

import numpy as np
import pytest
import torch
from detectron2.evaluation import SemSegEvaluator as Detectron2SemSegEvaluator

from mtl_d2.evaluation import SemSegEvaluator
from mtl_d2.evaluation.sem_seg import confusion_matrix

CLASSES = ["sky", "sea", "land", "boat"]


def _scores(label, num_classes=4):
    return torch.nn.functional.one_hot(torch.as_tensor(label).long(), num_classes).permute(2, 0, 1).float()


def _run(evaluator, records, labels):
    evaluator.reset()
    for record, label in zip(records, labels, strict=True):
        evaluator.process([record], [{"sem_seg": _scores(label)}])
    return evaluator.evaluate()["sem_seg"]


def test_equals_detectron2s_evaluator(register, save_label):
    rng = np.random.default_rng(0)
    records, predictions = [], []
    for i in range(4):
        label = rng.choice([0, 1, 2, 255], size=(20, 17 + i))  # class 3 is predicted but never true
        records.append({"file_name": f"{i}.jpg", "sem_seg_file_name": save_label(label)})
        predictions.append(np.where(rng.random(label.shape) < 0.6, label % 255, rng.integers(0, 4, label.shape)))
    name = register(records, stuff_classes=CLASSES, ignore_label=255)
    expected = _run(Detectron2SemSegEvaluator(name), records, predictions)
    figures = _run(SemSegEvaluator(name), records, predictions)
    metrics = [key for key in expected if "B" not in key]  # upstream's main adds boundary figures
    assert set(metrics) == set(figures)
    for key in metrics:
        assert figures[key] == pytest.approx(expected[key], abs=1e-12, nan_ok=True), key
    assert 0 < figures["mIoU"] < 100 and math.isnan(figures["IoU-boat"])


def test_images_without_a_map_are_left_out(register, save_label):
    label = np.zeros((6, 6))
    records = [{"file_name": "a.jpg", "sem_seg_file_name": save_label(label)}, {"file_name": "b.jpg"}]
    evaluator = SemSegEvaluator(register(records, stuff_classes=CLASSES, ignore_label=255))
    figures = _run(evaluator, records, [label, label + 1])
    assert figures["mIoU"] == figures["pACC"] == 100 and evaluator.num_images == 1


def test_hand_computed(register, save_label):
    records = [{"file_name": "a.jpg", "sem_seg_file_name": save_label(np.array([[0, 0, 1, 255]]))}]
    name = register(records, stuff_classes=["a", "b"], ignore_label=255)
    evaluator = SemSegEvaluator(name)
    evaluator.process(records, [{"sem_seg": _scores(np.array([[0, 1, 1, 0]]), 2)}])
    figures = evaluator.evaluate()["sem_seg"]
    assert figures["IoU-a"] == figures["IoU-b"] == figures["mIoU"] == 50
    assert figures["pACC"] == pytest.approx(200 / 3) and figures["mACC"] == 75


def test_no_labelled_pixel_is_nan(register, save_label):
    records = [{"file_name": "a.jpg", "sem_seg_file_name": save_label(np.full((4, 4), 255))}]
    figures = _run(
        SemSegEvaluator(register(records, stuff_classes=CLASSES, ignore_label=255)),
        records,
        [np.zeros((4, 4))],
    )
    assert all(math.isnan(figures[key]) for key in ("mIoU", "fwIoU", "mACC", "pACC"))


def test_errors_name_the_file(register, save_label):
    path = save_label(np.full((4, 4), 7))
    records = [{"file_name": "a.jpg", "sem_seg_file_name": path}]
    name = register(records, stuff_classes=CLASSES, ignore_label=255)
    with pytest.raises(ValueError, match=f"{path}: label 7"):
        _run(SemSegEvaluator(name), records, [np.zeros((4, 4))])
    records[0]["sem_seg_file_name"] = path = save_label(np.zeros((4, 4)))
    with pytest.raises(ValueError, match=rf"{path}.*\(4, 5\).*\(4, 4\)"):
        _run(SemSegEvaluator(name), records, [np.zeros((4, 5))])
    with pytest.raises(ValueError, match="a.jpg.*2 semantic channels"):
        SemSegEvaluator(name).process(records, [{"sem_seg": torch.zeros(2, 4, 4)}])


@pytest.mark.parametrize("num_classes", [2, 19, 255, 300])
def test_confusion_matrix_counts_every_pair(num_classes):
    rng = np.random.default_rng(num_classes)
    predicted = rng.integers(0, num_classes, (31, 40))
    true = rng.integers(0, num_classes + 1, (31, 40))
    expected = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    np.add.at(expected, (predicted, true), 1)
    np.testing.assert_array_equal(confusion_matrix(predicted, true, num_classes), expected[:, :-1])
