"""Average precision by hand and against a reference; which images and classes are scored."""

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from mtl_d2.evaluation import ClassificationEvaluator
from mtl_d2.evaluation.average_precision import average_precision, mean_average_precision
from mtl_d2.evaluation.classification import classification_figures, record_image_labels
from mtl_d2.evaluation.per_image import ImageScores, read_per_image


def reference(scores, labels):
    """Threshold by threshold, as the definition reads."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        found = (labels[taken] == 1).sum()
        area += (found / (labels == 1).sum() - recall) * found / taken.sum()
        recall = found / (labels == 1).sum()
    return area


def test_values_by_hand():
    labels = np.array([1, 0, 1, 0])
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.1]), labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(np.array([0.9, 0.1, 0.8, 0.2]), labels) == 1
    assert average_precision(np.full(4, 0.3), labels) == 0.5  # one group of equal scores: precision at all images
    assert average_precision(np.array([0.9, 0.7, 0.7, 0.1]), labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert np.isnan(average_precision(np.array([0.3]), np.array([0]))) and np.isnan(
        average_precision(np.zeros(0), np.zeros(0))
    )


def _random(seed, num=40):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 12, num) / 12, rng.integers(0, 2, num)  # many ties


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_definition_whatever_the_order_of_the_images(seed):
    scores, labels = _random(seed)
    expected = reference(scores, labels)
    order = np.random.default_rng(seed).permutation(len(scores))
    assert average_precision(scores, labels) == pytest.approx(expected)
    assert average_precision(scores[order], labels[order]) == pytest.approx(expected)


def test_it_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = _random(9)
    assert average_precision(scores, labels) == pytest.approx(metrics.average_precision_score(labels, scores))


def test_a_draw_is_the_dataset_written_out():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 9, (20, 3)) / 9, rng.integers(-1, 2, (20, 3))
    labels[:, 2] = -1  # a class that nothing is known of
    labels[3:, 1] = 0  # one that is rare: some draw has none of it
    labels[0, 1] = 1
    repeats = np.concatenate([np.ones((1, 20), int), rng.multinomial(20, [0.05] * 20, size=8), np.zeros((1, 20), int)])
    repeats[2, labels[:, 1] == 1] = 0
    found = ImageScores(tuple("abcdefghijklmnopqrst"), scores, labels).figures(repeats)
    for figure, draw in zip(found, repeats, strict=True):
        written = np.repeat(np.arange(20), draw)
        figures = classification_figures(scores[written], labels[written], ["x", "y", "z"])
        assert figure == pytest.approx(figures["mAP"], nan_ok=True)
        assert np.isnan(figures["AP-z"])
    assert np.isnan(found[-1]) and not np.isnan(found[:-1]).any()


def test_unknown_labels_and_classes_without_a_positive_take_no_part():
    scores = np.array([[0.9, 0.6, 0.5], [0.8, 0.4, 0.5], [0.1, 0.7, 0.5]])
    labels = np.array([[1, 0, -1], [-1, 0, -1], [0, 0, -1]])
    figures = classification_figures(scores, labels, ["a", "b", "c"])
    assert figures["mAP"] == figures["AP-a"] == 100
    assert np.isnan(figures["AP-b"]) and np.isnan(figures["AP-c"])
    assert figures["F1"] == pytest.approx(100 * 2 / (2 + 2))  # one right; two wrong: of b in the images 0 and 2
    empty = classification_figures(scores[:0], labels[:0], ["a", "b", "c"])
    assert all(np.isnan(value) for value in empty.values())
    assert mean_average_precision(scores, labels, np.ones((2, 3))).tolist() == [100, 100]


def _annotation(category, **more):
    return {"bbox": [0, 0, 2, 2], "bbox_mode": 1, "category_id": category, "iscrowd": 0, **more}


def test_labels_of_a_record(save_label):
    semantic = np.array([[0, 2], [255, 2]])
    crowds = [_annotation(1, iscrowd=1), _annotation(0, iscrowd=1), _annotation(2, iscrowd=1, class_agnostic=True)]
    record = {
        "file_name": "a.jpg",
        "image_labels": [2],
        "annotations": [_annotation(0), _annotation(0), *crowds],
        "sem_seg_file_name": save_label(semantic),
    }
    assert record_image_labels(record, "given", 3).tolist() == [0, 0, 1]
    assert record_image_labels(record, "instances", 3).tolist() == [1, -1, 0]
    assert record_image_labels(record, "sem_seg", 3).tolist() == [1, 0, 1]
    assert record_image_labels({**record, "annotations": []}, "instances", 3).tolist() == [0, 0, 0]
    assert record_image_labels({"file_name": "a.jpg"}, "instances", 3) is None
    with pytest.raises(ValueError, match=r"a.jpg: 'image_labels': found the class 2, expected 0 to 1"):
        record_image_labels(record, "given", 2)


@pytest.fixture
def dataset(register):
    labels = [[0], [1], None, [], [0, 1]]
    records = [{"file_name": f"{i}.jpg", "image_id": i, "height": 4, "width": 4} for i in range(5)]
    for record, given in zip(records, labels, strict=True):
        if given is not None:
            record["image_labels"] = given
    return register(records, image_label_classes=["in", "out"]), records


OUTPUTS = [{"image_labels": torch.tensor(p)} for p in ([0.9, 0.2], [0.3, 0.8], [1.0, 1.0], [0.1, 0.4], [0.2, 0.3])]


def test_images_without_labels_are_left_out_and_empty_ones_are_not(dataset, tmp_path):
    name, records = dataset
    evaluator = ClassificationEvaluator(name, output_dir=tmp_path, per_image=True)
    evaluator.process(records, OUTPUTS)
    figures = evaluator.evaluate()["classification"]
    assert evaluator.num_images == 4
    # in: 0.9+ 0.3- 0.2+ 0.1-; out: 0.8+ 0.4- 0.3+ 0.2-
    assert figures["AP-in"] == figures["AP-out"] == figures["mAP"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert figures["F1"] == pytest.approx(100 * 2 * 2 / (2 + 4))
    kept = read_per_image(tmp_path, "classification/mAP")
    assert kept is not None and kept.names == ("0.jpg", "1.jpg", "3.jpg", "4.jpg")
    assert kept.figures(np.ones((1, 4), int))[0] == pytest.approx(figures["mAP"])
    evaluator.reset()
    assert np.isnan(evaluator.evaluate()["classification"]["mAP"]) and evaluator.num_images == 0


def test_nan_ranks_last(dataset):
    name, records = dataset
    scores = [{"image_labels": torch.full((2,), float("nan"))}, *OUTPUTS[1:]]
    evaluator = ClassificationEvaluator(name)
    evaluator.process(records, scores)
    assert evaluator.evaluate()["classification"]["AP-in"] == pytest.approx(100 * (1 / 2 + 2 / 4) / 2)


def test_another_number_of_classes_is_refused(dataset):
    name, records = dataset
    with pytest.raises(ValueError, match=r"0.jpg: the prediction has 3 image labels, but the dataset has 2 classes"):
        ClassificationEvaluator(name).process(records[:1], [{"image_labels": torch.zeros(3)}])


def test_ranks_are_gathered(dataset, monkeypatch):
    name, records = dataset
    whole, first, second = (ClassificationEvaluator(name) for _ in range(3))
    whole.process(records, OUTPUTS)
    first.process(records[:2], OUTPUTS[:2])
    second.process(records[2:], OUTPUTS[2:])
    expected, sent = whole.evaluate(), []
    with monkeypatch.context() as patch:
        patch.setattr(comm, "gather", lambda data: sent.append(data) or [])
        patch.setattr(comm, "is_main_process", lambda: False)
        assert second.evaluate() == {}
    monkeypatch.setattr(comm, "gather", lambda data: [data, *sent])
    assert first.evaluate() == expected and first.num_images == whole.num_images == 4
