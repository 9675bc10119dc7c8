import numpy as np
import pytest
from PIL import Image

from mtl_d2.data import get_records
from mtl_d2.data.check import check_dataset
from mtl_d2.data.class_counts import ClassCounts, class_weights, count_objects, count_pixels
from mtl_d2.testing import toy_dataset


def record(*categories, crowds=()):
    annotations = [{"category_id": c} for c in categories] + [{"category_id": c, "iscrowd": 1} for c in crowds]
    return {"annotations": annotations}


def test_objects_are_counted_without_crowds_and_unlabelled_images():
    counts = count_objects([record(0, 0, 2), record(2), record(), record(crowds=(1,)), {"sem_seg_file_name": "a"}], 4)
    assert counts.samples.tolist() == [2, 0, 2, 0]
    assert counts.images.tolist() == [1, 0, 2, 0]
    assert counts.beside.tolist() == [3, 0, 4, 0]


def test_pixels_are_counted_without_void_unlabelled_images_and_broken_files(tmp_path):
    maps = [[[0, 0, 1], [255, 255, 1]], [[1, 1, 1], [1, 1, 7]]]
    records = [{"annotations": []}]
    for i, pixels in enumerate(maps):
        Image.fromarray(np.array(pixels, np.uint8)).save(tmp_path / f"{i}.png")
        records.append({"sem_seg_file_name": str(tmp_path / f"{i}.png")})
    records[-1]["sem_seg_id_map"] = {1: 2, 7: 255, 0: 0, 255: 255}
    (tmp_path / "broken.png").write_bytes(b"nothing")
    counts = count_pixels([*records, {"sem_seg_file_name": str(tmp_path / "broken.png")}], 4, 255)
    assert counts.samples.tolist() == [2, 2, 5, 0]
    assert counts.images.tolist() == [1, 1, 1, 0]
    assert counts.beside.tolist() == [4, 4, 5, 0]


def test_the_counts_are_those_of_the_datasets_check():
    with toy_dataset(6) as name:
        statistics = check_dataset(name, jobs=0).statistics
        records = get_records([name])
        objects, pixels = count_objects(records, 2), count_pixels(records, 4, 255)
    assert objects.samples.tolist() == statistics.instances_per_class.tolist()
    assert objects.images.tolist() == statistics.images_per_class.tolist()
    assert pixels.samples.tolist() == statistics.semantic_pixels[:4].tolist()
    assert pixels.images.tolist() == statistics.semantic_images[:4].tolist()


# Three images: 6 of class 0; 2 of class 0 and 2 of class 1; 1 of class 2 and 1 of class 1. Class 3 never occurs.
COUNTS = ClassCounts.of(np.array([[6, 0, 0, 0], [2, 2, 0, 0], [0, 1, 1, 0]]), 4)


def test_inverse_weights_by_hand():
    # n = 8, 3, 1: 1/8, 1/3 and 1, of mean 35/72; class 3 weighs as much as the rarest.
    expected = np.array([1 / 8, 1 / 3, 1, 1]) * 72 / 35
    assert class_weights(COUNTS, "inverse") == pytest.approx(expected)


def test_median_frequency_weights_by_hand():
    # f = 8/10, 3/6, 1/2, of median 1/2: 5/8, 1, 1, of mean 7/8.
    assert class_weights(COUNTS, "median") == pytest.approx(np.array([5 / 8, 1, 1, 1]) * 8 / 7)


def test_effective_number_weights_by_hand():
    # E = (1 - 1/2^n) / (1 - 1/2) = 255/128, 7/4, 1.
    inverse = np.array([128 / 255, 4 / 7, 1, 1])
    expected = inverse / inverse[:3].mean()
    assert class_weights(COUNTS, "effective", beta=0.5) == pytest.approx(expected)
    # By images, n = 2, 2, 1: E = 3/2, 3/2, 1.
    expected = np.array([2 / 3, 2 / 3, 1, 1]) * 9 / 7
    assert class_weights(COUNTS, "effective", beta=0.5, unit="images") == pytest.approx(expected)


def test_effective_weights_lie_between_even_ones_and_inverse_ones():
    assert class_weights(COUNTS, "effective", beta=0.0) == pytest.approx(np.ones(4))
    assert class_weights(COUNTS, "effective", beta=1 - 1e-9) == pytest.approx(
        class_weights(COUNTS, "inverse"), rel=1e-5
    )


@pytest.mark.parametrize("scheme", ["inverse", "median", "effective"])
def test_weights_have_mean_one_over_the_classes_that_occur_and_grow_with_rarity(scheme):
    rng = np.random.default_rng(0)
    counts = ClassCounts.of(rng.poisson([50, 20, 5, 1, 0], (200, 5)), 5)
    weights = class_weights(counts, scheme)
    assert weights[:4].mean() == pytest.approx(1)
    assert (np.diff(weights[:4]) > 0).all() and weights[4] == weights[3]


@pytest.mark.parametrize("scheme", ["inverse", "median", "effective"])
def test_classes_that_are_alike_all_weigh_one(scheme):
    counts = ClassCounts.of(np.full((5, 3), 7), 3)
    assert class_weights(counts, scheme).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (COUNTS, {"scheme": "often"}, "found 'often', expected a number for each class or one of inverse, median, eff"),
        (COUNTS, {"scheme": "effective", "beta": 1.0}, "MODEL.MTL.CLASS_WEIGHTS_BETA: found 1.0, expected"),
        (ClassCounts.of([], 2), {"scheme": "inverse"}, "DATASETS.TRAIN has no label of any class"),
    ],
)
def test_what_cannot_be_weighed_is_named(counts, options, message):
    with pytest.raises(ValueError, match=message):
        class_weights(counts, **options)
