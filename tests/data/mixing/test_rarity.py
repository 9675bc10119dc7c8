import numpy as np
import pytest
from detectron2.data.samplers import RepeatFactorTrainingSampler

from mtl_d2.data import get_records
from mtl_d2.data.mixing.rarity import image_factors, rarity_factors, sem_seg_classes
from mtl_d2.data.mixing.settings import check_settings
from mtl_d2.testing import tiny_cfg, toy_dataset

SQRT2 = 2**0.5


def record(*categories, crowds=()):
    annotations = [{"category_id": c} for c in categories] + [{"category_id": c, "iscrowd": 1} for c in crowds]
    return {"annotations": annotations}


@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.5, 1.0])
def test_factors_are_detectron2s_where_all_images_are_labelled(threshold):
    rng = np.random.default_rng(0)
    classes = [rng.geometric(0.3, rng.integers(0, 5)).tolist() for _ in range(83)]
    expected = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        [record(*ids) for ids in classes], threshold
    )
    assert np.nan_to_num(rarity_factors(classes, threshold), nan=1.0) == pytest.approx(expected.numpy())


def test_factors_by_hand():
    # Among 8 labelled images, f(0) = 1/8, f(1) = 1/2, f(2) = 1.
    classes = [[0, 2], [1, 1, 2], [1, 2], [1, 2], [1, 2], [2], [2], [2], None, []]
    classes = [*classes[:8], None]
    assert rarity_factors(classes, 0.5)[:6] == pytest.approx([2, 1, 1, 1, 1, 1])
    assert np.isnan(rarity_factors(classes, 0.5)[8])
    thinned = rarity_factors(classes, 0.5, 0.5)
    assert thinned[:6] == pytest.approx([2, 1, 1, 1, 1, 1 / SQRT2])
    assert rarity_factors(classes, 0.0, 0.25)[:6] == pytest.approx([1] + [1 / SQRT2] * 4 + [0.5])


def test_no_class_at_all_is_no_error():
    assert np.isnan(rarity_factors([[], None], 0.1, 0.5)).all()
    assert rarity_factors([], 0.1).shape == (0,)


def test_empty_images_are_thinned_and_unlabelled_ones_are_not():
    cfg = tiny_cfg(**{"DATALOADER.MTL.UNDERSAMPLE_EMPTY": 0.25})
    records = [record(0), record(), record(crowds=(0,)), {"sem_seg_file_name": "a.png"}]
    assert image_factors(cfg, records).tolist() == [1, 0.25, 0.25, 1]
    cfg.MODEL.MTL.TASKS = ["sem_seg"]
    with pytest.raises(
        ValueError, match=r"UNDERSAMPLE_EMPTY: found 0.25 with the tasks \['sem_seg'\], expected .* insta"
    ):
        check_settings(cfg)


def test_crowds_make_no_class_frequent():
    cfg = tiny_cfg(**{"DATALOADER.REPEAT_THRESHOLD": 1.0})
    records = [record(0), record(crowds=(0,)), record(crowds=(0,)), record(crowds=(0,))]
    assert image_factors(cfg, records).tolist() == [2, 1, 1, 1]


def test_images_of_frequent_classes_alone_are_thinned():
    cfg = tiny_cfg(**{"DATALOADER.MTL.UNDERSAMPLE_FREQUENT": 0.25})
    records = [record(0), record(0), record(0, 1), record(0)]  # class 1 is in a quarter of them
    assert image_factors(cfg, records).tolist() == [0.5, 0.5, 1, 0.5]
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.25
    assert image_factors(cfg, records).tolist() == [0.5, 0.5, 1, 0.5]


def test_given_image_labels_count_and_derived_ones_count_as_their_objects():
    cfg = tiny_cfg(["classification"], **{"DATALOADER.REPEAT_THRESHOLD": 1.0})
    records = [{"image_labels": [1]}, {"image_labels": []}, {"image_labels": [0]}, {"image_labels": [0]}, record(1)]
    assert image_factors(cfg, records).tolist() == [2, 1, SQRT2, SQRT2, 1]  # of the four that are labelled
    cfg.INPUT.MTL.IMAGE_LABELS = "instances"
    records = [record(0), record(0), record(1), record(), {"image_labels": [1]}]
    assert image_factors(cfg, records).tolist() == [SQRT2, SQRT2, 2, 1, 1]
    cfg.INPUT.MTL.IMAGE_LABELS = "sem_seg"
    with pytest.raises(ValueError, match="expected the task instance, or classification with labels"):
        check_settings(cfg)


def test_semantic_classes_count_where_they_are_asked_for():
    labels = [("instance",), *[("instance", "sem_seg")] * 4]
    with toy_dataset(5, labels=labels, max_instances=1, size=(65, 61)) as name:  # images 1 and 3 have an object
        records = get_records([name])
        found = sem_seg_classes(records, 255)
        assert found[0] is None
        assert [set(ids) - {1, 2} for ids in found[1:]] == [{0, 3}] * 4  # and not 255, which the maps hold
        assert [bool({1, 2} & set(ids)) for ids in found[1:]] == [True, False, True, False]
        options = {"DATALOADER.REPEAT_THRESHOLD": 1.0, "MODEL.MTL.TASKS": ["sem_seg"]}
        with pytest.raises(ValueError, match="expected the task instance, or classification .*, or sem_seg with"):
            check_settings(tiny_cfg(**options))
        factors = image_factors(tiny_cfg(**options, **{"DATALOADER.MTL.REPEAT_SEM_SEG": True}), records)
    things = [set(ids) & {1, 2} for ids in found[1:]]
    rarest = [4 / sum(t == other for other in things) if t else 1 for t in things]
    assert factors == pytest.approx([1, *np.sqrt(rarest)])


def test_a_map_that_cannot_be_read_has_no_class(tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    (found,) = sem_seg_classes([{"sem_seg_file_name": str(tmp_path / "a.png")}], 255)
    assert found.tolist() == []
