import math

import numpy as np
import pytest
import torch

from mtl_d2.evaluation import PanopticEvaluator
from tests.evaluation.conftest import annotation, rectangle

SIZE = (10, 10)
# Semantic ids: 0 grass and 2 sky are stuff, 1 stands for the thing.
METADATA = {
    "thing_classes": ["cat", "dog"],
    "stuff_classes": ["grass", "animal", "sky"],
    "stuff_ids": [0, 2],
    "ignore_label": 255,
}


def _segment(id, category_id, isthing):
    return {"id": id, "isthing": isthing, "category_id": category_id}


class Scene:
    """One 10 x 10 image: grass, with what the test puts on it."""

    def __init__(self, register, save_label):
        self.register, self.save_label = register, save_label
        self.sem_seg = np.zeros(SIZE, dtype=np.int64)
        self.annotations = []

    def add(self, mask, category_id=0, iscrowd=0):
        self.annotations.append(annotation(mask, category_id, iscrowd))
        self.sem_seg[mask] = 1

    def evaluate(self, ids, segments):
        record = {
            "file_name": "a.jpg",
            "image_id": 1,
            "height": 10,
            "width": 10,
            "annotations": self.annotations,
            "sem_seg_file_name": self.save_label(self.sem_seg),
        }
        evaluator = PanopticEvaluator(self.register([record], **METADATA))
        evaluator.process([record], [{"panoptic_seg": (torch.as_tensor(ids, dtype=torch.int32), segments)}])
        figures = evaluator.evaluate()["panoptic_seg"]
        assert evaluator.num_images == 1
        return figures


@pytest.fixture
def scene(register, save_label):
    return Scene(register, save_label)


def box(top, left, bottom, right):
    return rectangle(*SIZE, top, left, bottom, right)


def test_perfect_prediction_is_100(scene):
    scene.add(box(0, 0, 4, 4))
    scene.add(box(5, 5, 9, 9), category_id=1)
    ids = np.full(SIZE, 7)
    ids[box(0, 0, 4, 4)], ids[box(5, 5, 9, 9)] = 3, 5
    figures = scene.evaluate(ids, [_segment(7, 0, False), _segment(3, 0, True), _segment(5, 1, True)])
    for name in ("PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "PQ-cat", "PQ-dog", "PQ-grass"):
        assert figures[name] == 100, name
    assert math.isnan(figures["PQ-sky"])  # neither true nor predicted: in no mean


def test_hand_computed_case(scene):
    """Two cats: one found at IoU 12/16, one missed; one cat where none is; grass at its IoU."""
    scene.add(box(0, 0, 4, 4))
    scene.add(box(6, 6, 10, 10))
    ids = np.full(SIZE, 1)
    ids[box(0, 0, 3, 4)] = 2  # 12 of 16 pixels
    ids[box(6, 0, 8, 2)] = 3  # false positive, 4 pixels of grass
    figures = scene.evaluate(ids, [_segment(1, 0, False), _segment(2, 0, True), _segment(3, 0, True)])
    # Cat: TP 1 with IoU .75, FP 1, FN 1. Grass: 68 true pixels, predicted 84, overlap 64.
    grass = 64 / (68 + 84 - 64)
    assert figures["PQ-cat"] == pytest.approx(100 * 0.75 / 2)
    assert figures["SQ_th"] == pytest.approx(75) and figures["RQ_th"] == pytest.approx(50)
    assert figures["PQ_st"] == figures["SQ_st"] == pytest.approx(100 * grass) and figures["RQ_st"] == 100
    assert figures["PQ"] == pytest.approx((37.5 + 100 * grass) / 2)


def test_void_leaves_the_union_and_excuses_false_positives(scene):
    scene.add(box(0, 0, 4, 4))
    scene.sem_seg[0:4, 4:10] = 255  # ignored
    scene.sem_seg[8:10, 0:4] = 1  # a thing's semantics without an instance: void as well
    ids = np.full(SIZE, 1)
    ids[box(0, 0, 4, 8)] = 2  # 16 true pixels and 16 void ones: IoU 1 once void is left out
    ids[box(7, 0, 10, 4)] = 3  # 8 of 12 pixels in void: not counted
    figures = scene.evaluate(ids, [_segment(1, 0, False), _segment(2, 0, True), _segment(3, 0, True)])
    assert figures["PQ-cat"] == 100
    assert figures["PQ-grass"] == pytest.approx(100 * 48 / 52)


def test_half_in_void_is_a_false_positive(scene):
    scene.sem_seg[0:2] = 255
    ids = np.full(SIZE, 1)
    ids[box(0, 0, 4, 4)] = 2  # 8 of 16 pixels in void: not more than half
    figures = scene.evaluate(ids, [_segment(1, 0, False), _segment(2, 0, True)])
    assert figures["PQ-cat"] == 0


@pytest.mark.parametrize(("category_id", "expected"), [(0, 100.0), (1, 0.0)])
def test_crowd_excuses_its_own_class_only_and_is_never_missed(scene, category_id, expected):
    scene.add(box(0, 0, 4, 4), category_id)
    scene.add(box(5, 0, 10, 10), 0, iscrowd=1)
    ids = np.full(SIZE, 1)
    ids[box(0, 0, 4, 4)] = 2
    ids[box(6, 1, 8, 3)] = 3  # in the crowd of cats
    segments = [_segment(1, 0, False), _segment(2, category_id, True), _segment(3, category_id, True)]
    figures = scene.evaluate(ids, segments)
    assert figures["RQ_th"] == pytest.approx(expected or 100 / 1.5)
    crowd_alone = scene.evaluate(np.where(ids == 3, 1, ids), segments)
    assert crowd_alone["RQ_th"] == 100


@pytest.mark.parametrize("category_id", [0, 1])
def test_crowd_of_no_class_excuses_every_class(scene, category_id):
    scene.add(box(0, 0, 4, 4), category_id)
    scene.add(box(5, 0, 10, 10), 0, iscrowd=1)
    scene.annotations[-1]["class_agnostic"] = True
    ids = np.full(SIZE, 1)
    ids[box(0, 0, 4, 4)] = 2
    ids[box(6, 1, 8, 3)] = 3
    segments = [_segment(1, 0, False), _segment(2, category_id, True), _segment(3, category_id, True)]
    assert scene.evaluate(ids, segments)["RQ"] == 100


def test_wrong_class_is_missed_and_wrong(scene):
    scene.add(box(0, 0, 4, 4))
    ids = np.full(SIZE, 1)
    ids[box(0, 0, 4, 4)] = 2
    figures = scene.evaluate(ids, [_segment(1, 0, False), _segment(2, 1, True)])
    assert figures["PQ-cat"] == figures["PQ-dog"] == figures["PQ_th"] == 0 and figures["PQ-grass"] == 100


def test_images_without_either_label_are_left_out(register, save_label):
    size = {"height": 10, "width": 10}
    label = save_label(np.zeros(SIZE))
    box_only = {"bbox": [0, 0, 4, 4], "category_id": 0}
    records = [
        {"file_name": "a", "image_id": 1, **size, "annotations": []},
        {"file_name": "b", "image_id": 2, **size, "sem_seg_file_name": label},
        {"file_name": "c", "image_id": 3, **size, "sem_seg_file_name": label, "annotations": [box_only]},
        {"file_name": "d", "image_id": 4, **size, "sem_seg_file_name": label, "annotations": []},
    ]
    evaluator = PanopticEvaluator(register(records, **METADATA))
    output = {"panoptic_seg": (np.ones(SIZE, dtype=np.int32), [_segment(1, 0, False)])}
    evaluator.process(records, [output] * 4)
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == 100 and evaluator.num_images == 1


def test_errors_name_the_file(scene):
    with pytest.raises(ValueError, match=r"a\.jpg.*id 4"):
        scene.evaluate(np.full(SIZE, 4), [_segment(1, 0, False)])
    with pytest.raises(ValueError, match=r"a\.jpg.*stuff category 1.*\[0, 2\]"):
        scene.evaluate(np.full(SIZE, 1), [_segment(1, 1, False)])
    with pytest.raises(ValueError, match=r"a\.jpg.*\(5, 10\).*\(10, 10\)"):
        scene.evaluate(np.ones((5, 10)), [_segment(1, 0, False)])


def test_hundreds_of_segments_are_matched(scene):
    ids = np.arange(1, 101).reshape(SIZE)
    for y, x in np.ndindex(SIZE):
        scene.add(box(y, x, y + 1, x + 1), category_id=(y + x) % 2)
    segments = [_segment(1 + 10 * y + x, (y + x) % 2, True) for y, x in np.ndindex(SIZE)]
    assert scene.evaluate(ids, segments)["PQ_th"] == 100
