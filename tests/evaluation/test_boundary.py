import math

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import BitMasks, Instances

from mtl_d2.evaluation import InstanceEvaluator, SemSegEvaluator
from mtl_d2.evaluation.boundary import boundary_counts, boundary_rle
from mtl_d2.structures.boundary import band_width
from tests.evaluation.conftest import annotation, rectangle

SIZE = (40, 40)
ONE_PIXEL = 1.2 / np.hypot(*SIZE)
CLASSES = ["ground", "disk", "never"]


def _instances(masks, scores=None, classes=None):
    masks = torch.as_tensor(np.array(masks, dtype=bool).reshape(-1, *SIZE))
    instances = Instances(SIZE, pred_boxes=BitMasks(masks).get_bounding_boxes(), pred_masks=masks)
    instances.scores = torch.as_tensor(scores if scores is not None else np.linspace(0.9, 0.5, len(masks)))
    instances.pred_classes = torch.as_tensor(classes if classes is not None else [0] * len(masks), dtype=torch.long)
    return instances


def _segm(register, images, width=ONE_PIXEL, **options):
    """The figures of images that are given as (annotations, instances)."""
    records = [
        {"file_name": f"{i}.png", "image_id": i, "height": SIZE[0], "width": SIZE[1], "annotations": annotations}
        for i, (annotations, _) in enumerate(images)
    ]
    evaluator = InstanceEvaluator(register(records, thing_classes=["a", "b"]), boundary_width=width, **options)
    evaluator.process(records, [{"instances": instances} for _, instances in images])
    return evaluator.evaluate()["segm"]


def _blob(rng):
    mask = np.zeros(SIZE, np.uint8)
    center, axes = rng.integers(0, 40, 2).tolist(), rng.integers(3, 18, 2).tolist()
    cv2.ellipse(mask, center, axes, int(rng.integers(180)), 0, 360, 1, -1)
    return mask.astype(bool)


def _random_images(rng):
    images = []
    for _ in range(6):
        masks = [_blob(rng) for _ in range(rng.integers(0, 5))]
        annotations = [annotation(mask, int(rng.integers(2)), iscrowd=int(k == 3)) for k, mask in enumerate(masks)]
        found = [np.roll(mask, rng.integers(-2, 3, 2), (0, 1)) for mask in masks for _ in range(2)]
        classes = [a["category_id"] for a in annotations for _ in range(2)]
        images.append((annotations, _instances(found, rng.random(len(found)), classes)))
    return images


def test_perfect_masks_score_100_at_the_border_of_the_image_too(register):
    masks = [rectangle(*SIZE, 0, 0, 12, 40), rectangle(*SIZE, 20, 20, 40, 40), rectangle(*SIZE, 15, 3, 16, 4)]
    figures = _segm(register, [([annotation(m) for m in masks], _instances(masks))])
    assert figures["boundary_AP"] == figures["boundary_AR"] == figures["boundary_AP-a"] == pytest.approx(100)
    assert math.isnan(figures["boundary_AP-b"]) and math.isnan(figures["boundary_APl"])


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
def test_a_shrunk_mask_has_the_computed_value(register, backend):
    """20 x 20 pixels in the middle, found as 18 x 18: 324 of 400 pixels are common, IoU 0.81.

    Bands of two pixels: 144 and 128 pixels; of the truth's two rings the inner one, 68 pixels, is the outer one of the
    prediction: 68 / (144 + 128 - 68) = 1 / 3. Of the thresholds .5:.05:.95 mask IoU passes 7, Boundary IoU none; bands
    of 9 pixels leave 2 x 2 pixels of the truth out and all of the prediction in: 320 / 400 = 0.8 passes 7.
    """
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    truth, found = rectangle(*SIZE, 10, 10, 30, 30), rectangle(*SIZE, 11, 11, 29, 29)
    images = [([annotation(truth)], _instances([found]))]
    rles = [
        boundary_rle(mask_util.encode(np.asfortranarray(m.view(np.uint8))), 2 / np.hypot(*SIZE)) for m in (truth, found)
    ]
    assert mask_util.area(rles).tolist() == [144, 128]
    assert mask_util.iou(rles[:1], rles[1:], [0])[0, 0] == pytest.approx(1 / 3)
    for pixels, expected in ((2, 0), (9, 70)):
        figures = _segm(register, images, width=pixels / np.hypot(*SIZE), backend=backend)
        assert figures["AP"] == pytest.approx(70)
        assert figures["boundary_AP"] == pytest.approx(expected)


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
def test_a_crowd_is_matched_by_its_mask(register, backend):
    """A detection within a crowd is no false one, though the bands have not a pixel in common."""
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    crowd, inside, thing = (rectangle(*SIZE, *b) for b in ((0, 0, 30, 40), (8, 8, 20, 20), (33, 5, 38, 30)))
    truth = [annotation(crowd, iscrowd=1), annotation(thing)]
    figures = _segm(register, [(truth, _instances([inside, thing]))], backend=backend)
    assert figures["boundary_AP"] == figures["AP"] == pytest.approx(100)


@pytest.mark.parametrize("seed", range(3))
def test_faster_coco_eval_and_pycocotools_agree(register, seed):
    pytest.importorskip("faster_coco_eval")
    images = _random_images(np.random.default_rng(seed))
    fast, reference = (_segm(register, images, 0.06, backend=b) for b in ("faster-coco-eval", "pycocotools"))
    assert 0 < reference["boundary_AP"] < reference["AP"] < 100
    assert fast.keys() == reference.keys()
    np.testing.assert_allclose(list(fast.values()), list(reference.values()), atol=1e-9, rtol=0)


def test_boundary_ap_leaves_the_other_figures_alone_and_is_off_by_default(register):
    images = _random_images(np.random.default_rng(0))
    without, figures = _segm(register, images, width=0), _segm(register, images)
    assert not any(name.startswith("boundary") for name in without)
    assert without == pytest.approx({k: v for k, v in figures.items() if not k.startswith("boundary")}, nan_ok=True)
    assert {f"boundary_{name}" for name in without} | set(without) == set(figures)


def test_images_without_object_or_detection(register):
    """A detection where nothing is, surer than the right one: precision one half."""
    mask = _blob(np.random.default_rng(0))
    right, nothing = ([annotation(mask)], _instances([mask], [0.5])), ([], _instances([]))
    assert _segm(register, [right, nothing])["boundary_AP"] == pytest.approx(100)
    assert _segm(register, [right, ([], _instances([mask], [0.9]))])["boundary_AP"] == pytest.approx(50)
    assert _segm(register, [([annotation(mask)], _instances([]))])["boundary_AP"] == 0


def test_the_band_of_an_rle_is_that_of_its_frame():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = _blob(rng)
        width = band_width(SIZE, 0.05)
        frame = np.pad(mask.view(np.uint8), 1)
        inner = cv2.erode(frame, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
        rle = mask_util.encode(np.asfortranarray(mask.view(np.uint8)))
        assert np.array_equal(mask_util.decode(boundary_rle(rle, 0.05)), mask & (inner == 0))
    empty = mask_util.encode(np.zeros(SIZE, np.uint8, order="F"))
    assert mask_util.area(boundary_rle(empty, 0.05)) == 0


def _scores(label):
    return torch.nn.functional.one_hot(torch.as_tensor(label).long(), len(CLASSES)).permute(2, 0, 1).float()


def _sem_seg(register, save_label, pairs, width):
    records = [{"file_name": f"{i}.jpg", "sem_seg_file_name": save_label(true)} for i, (true, _) in enumerate(pairs)]
    evaluator = SemSegEvaluator(register(records, stuff_classes=CLASSES, ignore_label=255), boundary_width=width)
    evaluator.process(records, [{"sem_seg": _scores(predicted)} for _, predicted in pairs])
    return evaluator.evaluate()["sem_seg"]


def test_boundary_iou_of_classes_by_hand(register, save_label):
    """A row of ground above one of disk, eight columns: each pixel is in a band, whatever the width.

    The prediction has one column of disk too many: 7 of 8 pixels of ground, 8 of 9 of disk.
    """
    true = np.repeat([[0] * 8, [1] * 8], 1, axis=0)
    predicted = true.copy()
    predicted[0, 0] = 1
    figures = _sem_seg(register, save_label, [(true, predicted)], 0.1)
    assert figures["boundary_IoU-ground"] == pytest.approx(100 * 7 / 8)
    assert figures["boundary_IoU-disk"] == pytest.approx(100 * 8 / 9)
    assert figures["boundary_IoU"] == pytest.approx(100 * (7 / 8 + 8 / 9) / 2)
    assert math.isnan(figures["boundary_IoU-never"])


def test_a_shrunk_class_has_the_computed_value(register, save_label):
    """The squares of the masks' test, as classes: 1 / 3 for the disk, as there.

    Ground: the truth's band is 156 pixels at the border of the image and the two rings around the square, 84 + 92,
    of which the prediction has 76 + 84: the border's 152 + 144 pixels are common.
    """
    true, predicted = (rectangle(*SIZE, *box).astype(int) for box in ((10, 10, 30, 30), (11, 11, 29, 29)))
    figures = _sem_seg(register, save_label, [(true, predicted)], 2 / np.hypot(*SIZE))
    assert figures["boundary_IoU-disk"] == pytest.approx(100 / 3)
    border = 40**2 - 36**2
    common = border + 84
    assert figures["boundary_IoU-ground"] == pytest.approx(
        100 * common / (border + 84 + 92 + border + 76 + 84 - common)
    )
    assert figures["mIoU"] > figures["boundary_IoU"]


def test_void_takes_no_part(register, save_label):
    rng = np.random.default_rng(0)
    true = rectangle(*SIZE, 10, 10, 30, 30).astype(int)
    true[rectangle(*SIZE, 5, 20, 15, 40)] = 255
    predicted = np.where(true == 255, rng.integers(0, 3, SIZE), true)
    perfect = _sem_seg(register, save_label, [(true, predicted)], 0.05)
    assert perfect["boundary_IoU"] == perfect["boundary_IoU-disk"] == 100
    nothing = np.full(SIZE, 255)
    assert math.isnan(_sem_seg(register, save_label, [(nothing, predicted)], 0.05)["boundary_IoU"])
    both = _sem_seg(register, save_label, [(true, predicted), (nothing, predicted)], 0.05)
    assert both == pytest.approx(perfect, nan_ok=True)


@pytest.mark.parametrize("num_classes", [3, 255, 300])
def test_counts_are_those_of_each_class_alone(num_classes):
    rng = np.random.default_rng(0)
    true, predicted = (np.kron(rng.choice([0, 1, num_classes - 1], (5, 5)), np.ones((7, 6), int)) for _ in range(2))
    counts = boundary_counts(predicted, true, num_classes, 0.03)
    width = band_width(true.shape, 0.03)
    for k in (0, 1, 2, num_classes - 1):
        bands = []
        for ids in (predicted, true):
            mask = (ids == k).astype(np.uint8)
            inner = cv2.erode(np.pad(mask, 1), np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
            bands.append((mask - inner).astype(bool))
        assert counts[:, k].tolist() == [(bands[0] & bands[1]).sum(), bands[0].sum(), bands[1].sum()]


@pytest.mark.parametrize("evaluator", [InstanceEvaluator, SemSegEvaluator])
def test_a_wrong_width_names_its_key(register, evaluator):
    name = register([], thing_classes=["a"], stuff_classes=["b"])
    with pytest.raises(ValueError, match=r"TEST.MTL.BOUNDARY_WIDTH .* is 2, expected .* \[0, 1\)"):
        evaluator(name, boundary_width=2)
