"""Keypoints follow the image; what a config asks of them and the data do not say is told before the training."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList, VFlipTransform

from mtl_d2.data import BrokenSampleError, DatasetError, MultiTaskDatasetMapper
from mtl_d2.data.annotations import keypoint_problems
from mtl_d2.data.copy_paste import with_copy_paste
from mtl_d2.data.keypoints import keypoint_flip_indices, transform_keypoints
from mtl_d2.data.labels import count_labels
from mtl_d2.data.preflight import preflight
from mtl_d2.data.schema import DatasetSchema
from mtl_d2.testing import TOY_KEYPOINTS, tiny_cfg, toy_dataset

LABELS = ("instance", "sem_seg", "edge", "keypoint")
TASKS = ("instance", "keypoint")


@pytest.fixture
def dataset():
    with toy_dataset(4, labels=[LABELS, LABELS, ("instance",), LABELS]) as name:
        yield name


def _points(*values):
    return [{"keypoints": [float(v) for v in values]}]


def _transformed(objects, *transforms, size=(20, 30), inside=None, flips=(1, 0)):
    return transform_keypoints(objects, TransformList(list(transforms)), size, inside, flips)


def test_a_mirror_image_swaps_left_and_right():
    found = _transformed(_points(3, 4, 2, 10, 6, 1), T.HFlipTransform(30))
    assert found.tolist() == [[[20, 6, 1], [27, 4, 2]]]
    twice = _transformed(_points(3, 4, 2, 10, 6, 1), T.HFlipTransform(30), T.HFlipTransform(30))
    assert twice.tolist() == [[[3, 4, 2], [10, 6, 1]]]


def test_what_lies_outside_of_the_image_or_in_its_padding_is_not_labelled():
    crop = T.CropTransform(5, 0, 20, 20)
    found = _transformed(_points(3, 4, 2, 10, 6, 2), crop, size=(20, 20))
    assert found.tolist() == [[[0, 0, 0], [5, 6, 2]]]
    padded = _transformed(_points(3, 4, 2, 10, 6, 2), inside=(slice(0, 20), slice(0, 8)))
    assert padded.tolist() == [[[3, 4, 2], [0, 0, 0]]]


def test_an_object_without_keypoints_has_none_labelled():
    found = _transformed([*_points(3, 4, 2, 10, 6, 2), {}])
    assert found.shape == (2, 2, 3) and not found[1].any() and _transformed([]).shape == (0, 2, 3)
    with pytest.raises(ValueError, match="'keypoints': found 3 numbers, expected x, y and visibility of 2"):
        _transformed(_points(1, 2, 2))


def test_labelled_images_have_keypoints_beside_their_instances(dataset):
    cfg = tiny_cfg(TASKS, dataset, **{"INPUT.RANDOM_FLIP": "none", "INPUT.MIN_SIZE_TRAIN": (128,)})
    cfg.INPUT.MAX_SIZE_TRAIN = 500
    with_points = MultiTaskDatasetMapper(cfg, is_train=True)
    without = MultiTaskDatasetMapper(tiny_cfg(("instance",), dataset, **{"INPUT.RANDOM_FLIP": "none"}), is_train=True)
    records = DatasetCatalog.get(dataset)
    assert count_labels(records, TASKS) == {"instance": 4, "keypoint": 2}  # images 0 and 2 have none
    for record in records:
        item, plain = with_points(record), without(record)
        assert ("keypoints" in item) == (record["image_id"] in (1, 3)) and "keypoints" not in plain
        assert item["instances"].get_fields().keys() == plain["instances"].get_fields().keys()
        if "keypoints" not in item:
            continue
        points, boxes = item["keypoints"].tensor, item["instances"].gt_boxes.tensor
        assert points.shape == (len(boxes), 3, 3)
        torch.testing.assert_close(points[:, 0, :2], boxes[:, :2], atol=1e-3, rtol=0)
        torch.testing.assert_close(points[:, 1, :2], boxes[:, [2, 1]], atol=1e-3, rtol=0)
        assert torch.equal(points[:, 2, 2] > 0, item["instances"].gt_classes == 0)


def test_objects_that_a_crop_empties_leave_with_their_keypoints(dataset):
    crop = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [20, 20]}
    mapper = MultiTaskDatasetMapper(tiny_cfg(TASKS, dataset, **crop), is_train=True)
    record = DatasetCatalog.get(dataset)[3]
    counts = set()
    for seed in range(20):
        np.random.seed(seed)  # noqa: NPY002
        item = mapper(record)
        assert len(item["keypoints"]) == len(item["instances"])
        points = item["keypoints"].tensor[item["keypoints"].tensor[..., 2] > 0]
        height, width = item["image"].shape[1:]
        assert (points[:, :2] >= 0).all() and (points[:, 0] <= width).all() and (points[:, 1] <= height).all()
        counts.add(len(item["instances"]))
    assert len(counts) > 1


def test_flip_indices_are_of_the_datasets_that_have_keypoints(dataset):
    with toy_dataset(1, labels=("instance",)) as plain:
        del MetadataCatalog.get(plain).keypoint_names
        cfg = tiny_cfg(TASKS, dataset)
        cfg.DATASETS.TRAIN = (plain, dataset)
        assert keypoint_flip_indices(cfg) == [1, 0, 2]
        MetadataCatalog.get(plain).keypoint_names = ["nose"]
        with pytest.raises(DatasetError, match="keypoint_names of .* differs from that of .*, expected the same"):
            keypoint_flip_indices(cfg)


def test_flips_without_pairs_are_refused(dataset):
    del MetadataCatalog.get(dataset).keypoint_flip_map
    message = "INPUT.RANDOM_FLIP: found 'horizontal', but dataset .* set it to none, or give keypoints.flip_pairs"
    with pytest.raises(DatasetError, match=message):
        MultiTaskDatasetMapper(tiny_cfg(TASKS, dataset), is_train=True)
    MultiTaskDatasetMapper(tiny_cfg(("instance",), dataset), is_train=True)
    assert keypoint_flip_indices(tiny_cfg(TASKS, dataset, **{"INPUT.RANDOM_FLIP": "none"})) == [0, 1, 2]
    MetadataCatalog.get(dataset).keypoint_flip_map = []  # nothing swaps, and that is known
    assert keypoint_flip_indices(tiny_cfg(TASKS, dataset)) == [0, 1, 2]


@pytest.mark.parametrize(("key", "value"), [("INPUT.RANDOM_FLIP", "vertical"), ("INPUT.MTL.VERTICAL_FLIP_PROB", 0.5)])
def test_vertical_flips_are_refused(dataset, key, value):
    """A pair says what is left and right: the upper left corner becomes the lower left one, a left eye a right one."""
    with pytest.raises(DatasetError, match=f"{key}: found .*{value}.*, but flip pairs .* nothing of above and below"):
        MultiTaskDatasetMapper(tiny_cfg(TASKS, dataset, **{key: value}), is_train=True)
    assert VFlipTransform(20).apply_coords(np.array([[3.0, 4.0]])).tolist() == [[3, 16]]


def test_copies_of_objects_are_refused(dataset):
    cfg = tiny_cfg(TASKS, dataset, **{"INPUT.MTL.COPY_PASTE.PROB": 0.5})
    mapper = MultiTaskDatasetMapper(cfg, is_train=True)
    with pytest.raises(
        ValueError, match="COPY_PASTE.PROB: MODEL.MTL.TASKS has 'keypoint', and keypoints are not pasted"
    ):
        with_copy_paste(cfg, mapper, DatasetCatalog.get(dataset))


def test_a_wrong_number_of_keypoints_is_told_with_the_file(dataset):
    mapper = MultiTaskDatasetMapper(tiny_cfg(TASKS, dataset), is_train=True)
    record = DatasetCatalog.get(dataset)[1]
    record = {**record, "annotations": [{**record["annotations"][0], "keypoints": [1, 2, 2]}]}
    with pytest.raises(BrokenSampleError, match=r"001.png: 'keypoints': found 3 numbers, expected x, y .* of 3"):
        mapper(record)


def test_preflight_counts_and_refuses(dataset):
    assert preflight(tiny_cfg(TASKS, dataset))[dataset] == {"images": 4, "instance": 4, "keypoint": 2}
    for overrides, message in (
        ({"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 17}, "NUM_KEYPOINTS: found 17, expected 3, as in keypoint_names"),
        ({"TEST.KEYPOINT_OKS_SIGMAS": []}, r"TEST.KEYPOINT_OKS_SIGMAS: found \[\], expected a number above 0 for each"),
        ({"TEST.KEYPOINT_OKS_SIGMAS": [0.1, 0.1, 0.0]}, r"found \[0.1, 0.1, 0.0\], expected a number above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            preflight(tiny_cfg(TASKS, dataset, **overrides))
    MetadataCatalog.get(dataset).__dict__["keypoint_names"] = ["a", "b"]
    with pytest.raises(DatasetError, match=r"keypoint_flip_map: found 'top_left', expected two of keypoint_names"):
        preflight(tiny_cfg(TASKS, dataset))


def test_a_dataset_without_keypoints_says_what_it_can_do_about_it():
    with toy_dataset(2, labels=("instance",)) as name:
        cfg = tiny_cfg(TASKS, name)
        with pytest.raises(DatasetError, match="found 'keypoint', but no image .* has labels for it; remove the task"):
            preflight(cfg)
        MetadataCatalog.get(name).missing_labels = {"keypoint": "run make_keypoints"}
        with pytest.raises(DatasetError, match="has labels for it; run make_keypoints."):
            preflight(cfg)


@pytest.mark.parametrize("keypoints", ["abc", [1, 2], [1, 2, 3], [1, float("nan"), 2], [[1, 2, 2]]])
def test_keypoints_that_are_none_are_a_problem(keypoints):
    (problem,) = keypoint_problems(keypoints)
    assert problem.field == "keypoints" and "a visibility of 0, 1 or 2" in problem.expected
    assert not list(keypoint_problems([1, 2.5, 2, 0, 0, 0]))


def test_schema_has_them_in_detectron2s_metadata():
    schema = DatasetSchema(
        thing_classes=["a"], keypoint_names=TOY_KEYPOINTS, keypoint_flip_map=[TOY_KEYPOINTS[:2]], edge_source="none"
    )
    values = schema.as_metadata()
    assert values["keypoint_names"] == list(TOY_KEYPOINTS) and values["keypoint_flip_map"] == [TOY_KEYPOINTS[:2]]
    assert not {"keypoint_names", "keypoint_flip_map"} & set(DatasetSchema(thing_classes=["a"]).as_metadata())
