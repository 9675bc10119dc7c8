"""A figure of a draw of images is that of a dataset in which each image stands as often as it was drawn."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances

from mtl_d2.evaluation import EdgeEvaluator, InstanceEvaluator, SemSegEvaluator
from mtl_d2.evaluation.coco_ap import average_precision, build_coco, precision_recall
from mtl_d2.evaluation.coco_matches import image_matches, resampled_ap
from mtl_d2.evaluation.per_image import Confusions, EdgeCounts, read_per_image
from mtl_d2.testing import toy_dataset

CLASSES = 3
METRICS = ("bbox/AP", "segm/AP", "sem_seg/mIoU", "edge/ODS")


def _scene(rng, num_images):
    """Objects and detections near some of them, crowds among them, every score another."""
    truth, found = [], []
    for i in range(num_images):
        for _ in range(rng.integers(0, 6)):
            box = [*rng.uniform(0, 60, 2), *rng.uniform(8, 30, 2)]
            k = int(rng.integers(0, CLASSES))
            crowd = int(rng.random() < 0.15)
            truth.append({"image_id": i, "category_id": k, "bbox": box, "iscrowd": crowd, "area": box[2] * box[3]})
            for _ in range(rng.integers(0, 3)):
                near = [x + rng.normal(0, 2) for x in box]
                found.append({"image_id": i, "category_id": k, "bbox": near, "area": near[2] * near[3], "iscrowd": 0})
        for _ in range(rng.integers(0, 4)):
            box = [*rng.uniform(0, 60, 2), *rng.uniform(8, 30, 2)]
            found.append(
                {"image_id": i, "category_id": int(rng.integers(0, CLASSES)), "bbox": box, "area": 1.0, "iscrowd": 0}
            )
    for detection, score in zip(found, rng.permutation(len(found)), strict=True):
        detection["score"] = (score + 1) / (len(found) + 1)
    return truth, found


def _coco(annotations, num_images):
    images = [{"id": i, "height": 100, "width": 100} for i in range(num_images)]
    return build_coco(images, annotations, CLASSES)


def _written_out(annotations, repeats):
    """The annotations of a dataset in which image i stands repeats[i] times."""
    ids, result = iter(range(int(repeats.sum()))), []
    for image, times in enumerate(repeats):
        for _ in range(times):
            new = next(ids)
            result += [{**a, "image_id": new} for a in annotations if a["image_id"] == image]
    return result


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
def test_ap_of_a_draw_is_that_of_the_dataset_written_out(backend):
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    rng = np.random.default_rng(0)
    num_images, max_dets = 12, 3
    truth, found = _scene(rng, num_images)
    matches = image_matches(_coco(truth, num_images), _coco(found, num_images), "bbox", max_dets)
    repeats = np.stack([np.ones(num_images, int), *rng.multinomial(num_images, [1 / num_images] * num_images, size=6)])
    assert repeats.max() > 1 and repeats.min() == 0
    for draw, ap in zip(repeats, resampled_ap(matches, repeats), strict=True):
        datasets = [_coco(_written_out(annotations, draw), num_images) for annotations in (truth, found)]
        tables = precision_recall(*datasets, "bbox", max_dets, backend)
        assert ap == pytest.approx(average_precision(tables, ["a", "b", "c"])["AP"], abs=1e-9)
    assert len(set(resampled_ap(matches, repeats))) == len(repeats)


def test_ap_by_hand():
    """One object in each of two images; found in the first at 0.9, missed in the second, where 0.5 is wrong."""
    truth = [{"image_id": i, "category_id": 0, "bbox": [0, 0, 10, 10], "iscrowd": 0, "area": 100.0} for i in (0, 1)]
    found = [
        {"image_id": 0, "category_id": 0, "bbox": [0, 0, 10, 10], "score": 0.9, "area": 100.0, "iscrowd": 0},
        {"image_id": 1, "category_id": 0, "bbox": [50, 50, 10, 10], "score": 0.5, "area": 100.0, "iscrowd": 0},
    ]
    matches = image_matches(_coco(truth, 2), _coco(found, 2), "bbox", 10)
    draws = np.array([[1, 1], [2, 0], [0, 2], [0, 0], [3, 1]])
    expected = [100 * 51 / 101, 100.0, 0.0, np.nan, 100 * 76 / 101]
    np.testing.assert_allclose(resampled_ap(matches, draws), expected)


def test_no_detection_at_all_is_zero():
    truth = [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 0, "area": 81.0}]
    matches = image_matches(_coco(truth, 1), _coco([], 1), "bbox", 10)
    assert resampled_ap(matches, np.array([[1], [4]])).tolist() == [0.0, 0.0]


def test_miou_and_ods_of_a_draw():
    confusions = np.array([[[3, 1], [0, 4]], [[8, 0], [0, 0]]])
    miou = Confusions(("a", "b"), confusions).figures(np.array([[1, 1], [2, 0], [0, 1], [0, 0]]))
    np.testing.assert_allclose(miou, [50 * (11 / 12 + 4 / 5), 50 * (3 / 4 + 4 / 5), 100, np.nan])
    counts = np.array([[[1, 2, 1, 2]], [[0, 2, 0, 2]]])
    ods = EdgeCounts(("a", "b"), counts).figures(np.array([[1, 1], [1, 0], [3, 1], [0, 0]]))
    np.testing.assert_allclose(ods, [0.25, 0.5, 0.375, np.nan])


@pytest.fixture
def evaluated(tmp_path):
    """The results of three evaluators on a toy dataset, and where they wrote."""
    with toy_dataset(5) as name:
        yield _evaluate(name, tmp_path), tmp_path


def _evaluate(name, folder):
    torch.manual_seed(0)
    evaluators = [E(name, output_dir=folder, per_image=True) for E in (InstanceEvaluator, SemSegEvaluator)]
    evaluators.append(EdgeEvaluator(name, output_dir=folder, per_image=True, workers=0))
    results = {}
    for record in DatasetCatalog.get(name):
        height, width = record["height"], record["width"]
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in record["annotations"])]
        masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[y0 : y1 - 1, x0:x1] = True
        instances = Instances((height, width))
        instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float).reshape(-1, 4))
        instances.scores = torch.rand(len(boxes))
        instances.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]], dtype=torch.long)
        instances.pred_masks = masks
        edge = torch.rand(height, width)
        output = {"instances": instances, "sem_seg": torch.rand(4, height, width), "edge": edge}
        for evaluator in evaluators:
            evaluator.process([record], [output])
    for evaluator in evaluators:
        results.update(evaluator.evaluate())
    return results


@pytest.mark.parametrize("metric", METRICS)
def test_what_evaluators_write_gives_their_own_figure(evaluated, metric):
    results, folder = evaluated
    group, figure = metric.split("/")
    images = read_per_image(folder, metric)
    assert len(images.names) == 5 and images.metric == metric
    (value,) = images.figures(np.ones((1, 5), int))
    assert value == pytest.approx(results[group][figure], abs=1e-9)


def test_columns_are_found_by_name(evaluated):
    images = read_per_image(evaluated[1], "sem_seg/mIoU")
    names = [*reversed(images.names), "other.png"]
    assert images.reordered(names).tolist() == [4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match="is not among the 1 images"):
        images.reordered(["other.png"])


def test_nothing_is_read_of_a_metric_that_is_not_known(tmp_path):
    assert read_per_image(tmp_path, "depth/rmse") is None
    assert read_per_image(tmp_path, "edge/ODS") is None
