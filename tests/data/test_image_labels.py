"""Labels of whole images: given or derived after augmentation, checked, counted, and not mixed up with absent ones."""

import copy
import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from mtl_d2.data import (
    BrokenSampleError,
    DatasetError,
    DatasetSchema,
    MultiTaskDatasetMapper,
    build_multitask_train_loader,
    get_records,
    preflight,
    validate_records,
)
from mtl_d2.data.check.dataset import check_dataset
from mtl_d2.data.check.text import render_statistics
from mtl_d2.data.class_counts import count_image_labels
from mtl_d2.data.copy_paste import with_copy_paste
from mtl_d2.data.datasets.image_labels import add_image_labels
from mtl_d2.data.description import ImageLabels
from mtl_d2.data.labels import count_labels, task_labels
from mtl_d2.data.seeded import seeded
from mtl_d2.evaluation.classification import record_image_labels
from mtl_d2.testing import tiny_cfg, toy_dataset

SIZE = (40, 60)
NUM_CLASSES = {"given": 2, "instances": 2, "sem_seg": 4}


def make_cfg(source="given", tasks=("classification",), dataset=None, **overrides):
    count = {"MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES": NUM_CLASSES[source]}
    return tiny_cfg(tasks, dataset, **{"INPUT.MTL.IMAGE_LABELS": source, **count, **overrides})


def make_mapper(source, augmentations=(), **overrides):
    cfg = make_cfg(source, **overrides)
    return MultiTaskDatasetMapper(cfg, is_train=True, augmentations=list(augmentations))


def annotation(category, left, right, *, masked=True, **more):
    polygon = {"segmentation": [[left, 5, right, 5, right, 20, left, 20]]} if masked else {}
    return {"bbox": [left, 5, right, 20], "bbox_mode": 0, "category_id": category, "iscrowd": 0, **polygon, **more}


@pytest.fixture
def record(tmp_path):
    """Class 0 on the left, class 1 on the right; semantic class 3 on the left, 0 elsewhere, some void."""
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    semantic = np.zeros(SIZE, np.uint8)
    semantic[:, :10], semantic[-3:] = 3, 255
    Image.fromarray(semantic).save(tmp_path / "semantic.png")
    return {
        "file_name": str(tmp_path / "a.png"),
        "height": SIZE[0],
        "width": SIZE[1],
        "image_id": 1,
        "annotations": [annotation(0, 2, 12), annotation(1, 40, 55)],
        "sem_seg_file_name": str(tmp_path / "semantic.png"),
        "image_labels": [1],
    }


class Crop(T.Augmentation):
    def __init__(self, left, width):
        self.left, self.width = left, width

    def get_transform(self, image):
        return T.CropTransform(self.left, 0, self.width, image.shape[0])


def test_given_labels_are_multi_hot_whatever_a_crop_leaves(record):
    for augmentations in ([], [Crop(0, 20)]):
        labels = make_mapper("given", augmentations)(record)["image_labels"]
        assert labels.dtype == torch.float32 and labels.tolist() == [0, 1]
    assert make_mapper("given")({**record, "image_labels": []})["image_labels"].tolist() == [0, 0]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("crop", "expected"), [((0, 60), [1, 1]), ((0, 30), [1, 0]), ((20, 15), [0, 0])])
def test_a_crop_that_loses_the_last_object_of_a_class_loses_its_label(record, crop, expected, masked):
    record["annotations"] = [annotation(0, 2, 12, masked=masked), annotation(1, 40, 55, masked=masked)]
    assert make_mapper("instances", [Crop(*crop)])(record)["image_labels"].tolist() == expected


def test_an_object_of_which_a_box_but_no_pixel_is_left_is_not_there(record):
    triangle = {**annotation(0, 10, 50), "segmentation": [[10, 5, 50, 5, 50, 20]]}  # its lower left is free
    record["annotations"] = [triangle]
    crop = T.CropTransform(0, 18, 20, 20)
    assert make_mapper("instances", [crop])(record)["image_labels"].tolist() == [0, 0]
    del triangle["segmentation"]
    assert make_mapper("instances", [crop])(record)["image_labels"].tolist() == [1, 0]


def test_a_class_of_which_there_are_only_crowds_is_unknown_while_one_is_in_sight(record):
    crowds = [annotation(1, 40, 55, iscrowd=1), annotation(0, 40, 55, iscrowd=1)]
    record["annotations"] = [annotation(0, 2, 12), *crowds, annotation(1, 0, 60, iscrowd=1, class_agnostic=True)]
    assert make_mapper("instances")(record)["image_labels"].tolist() == [1, -1]
    assert make_mapper("instances", [Crop(0, 30)])(record)["image_labels"].tolist() == [1, 0]


def test_semantic_classes_of_what_is_left_without_void_and_padding(record):
    assert make_mapper("sem_seg")(record)["image_labels"].tolist() == [1, 0, 0, 1]
    assert make_mapper("sem_seg", [Crop(20, 30)])(record)["image_labels"].tolist() == [1, 0, 0, 0]
    of_no_task = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2}
    assert make_mapper("sem_seg", **of_no_task)(record)["image_labels"].tolist() == [1, 0, 0, 1]
    lsj = {"INPUT.MTL.LSJ.ENABLED": True, "INPUT.MTL.LSJ.SIZE": [90, 90], "INPUT.MTL.LSJ.MAX_SCALE": 0.5}
    Image.new("L", SIZE[::-1], 3).save(record["sem_seg_file_name"])
    with seeded(0):
        sample = MultiTaskDatasetMapper(make_cfg("sem_seg", **lsj), is_train=True)(record)
    assert sample["image"].shape[1:] == (90, 90) and sample["image_labels"].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("source", NUM_CLASSES)
def test_absent_is_not_empty(record, source):
    key = {"given": "image_labels", "instances": "annotations", "sem_seg": "sem_seg_file_name"}[source]
    assert "image_labels" not in make_mapper(source)({k: v for k, v in record.items() if k != key})
    if source == "instances":
        assert make_mapper(source)({**record, "annotations": []})["image_labels"].tolist() == [0, 0]


def test_the_list_of_a_record_never_passes_for_a_label(record):
    cfg = make_cfg(tasks=("sem_seg",))
    for is_train in (True, False):
        assert "image_labels" not in MultiTaskDatasetMapper(cfg, is_train=is_train)(record)


def test_a_class_that_the_network_lacks_is_named(record):
    with pytest.raises(BrokenSampleError, match=r"a.png: 'image_labels': found the class 2, expected 0 to 1; correct"):
        make_mapper("given")({**record, "image_labels": [2]})
    record["annotations"][0]["category_id"] = 5
    with pytest.raises(BrokenSampleError, match=r"'annotations': found the class 5, expected 0 to 1; correct it, or"):
        make_mapper("instances")(record)


@pytest.mark.parametrize("source", ["instances", "sem_seg"])
@pytest.mark.parametrize("tasks", [("classification",), ("instance", "sem_seg", "classification")])
def test_derived_labels_follow_what_is_pasted(source, tasks):
    with toy_dataset(6) as name:
        records = copy.deepcopy(DatasetCatalog.get(name))
        cfg = make_cfg(source, tasks, name, **{"INPUT.MTL.COPY_PASTE.PROB": 1.0})
        mapper = with_copy_paste(cfg, MultiTaskDatasetMapper(cfg, is_train=True), records)
        changed = 0
        for seed in range(6):
            with seeded(seed):
                sample = mapper(records[0])  # without objects
            stored = record_image_labels(records[0], source, NUM_CLASSES[source])
            changed += int(stored is None or not np.array_equal(stored, sample["image_labels"]))
            if "instance" in tasks and source == "instances":
                assert (
                    sample["image_labels"].nonzero().flatten().tolist()
                    == sample["instances"].gt_classes.unique().tolist()
                )
            if "sem_seg" in tasks and source == "sem_seg":
                found = [i for i in sample["sem_seg"].unique().tolist() if i != 255]
                assert sample["image_labels"].nonzero().flatten().tolist() == found
        assert changed > 2


def test_nothing_is_pasted_where_the_labels_are_made_from_objects_without_masks(record):
    with toy_dataset(6) as name:
        records = copy.deepcopy(DatasetCatalog.get(name))
        for found in records[1]["annotations"]:
            del found["segmentation"]
        cfg = make_cfg("instances", dataset=name, **{"INPUT.MTL.COPY_PASTE.PROB": 1.0})
        mapper = with_copy_paste(cfg, MultiTaskDatasetMapper(cfg, is_train=True), records)
        for seed in range(4):
            with seeded(seed):
                expected = record_image_labels(records[1], "instances", 2)
                assert mapper(records[1])["image_labels"].tolist() == expected.tolist()


def test_given_labels_and_pasted_objects_are_refused():
    with toy_dataset(3, labels=("instance", "classification")) as name:
        cfg = make_cfg("given", dataset=name, **{"INPUT.MTL.COPY_PASTE.PROB": 0.5})
        with pytest.raises(ValueError, match=r"COPY_PASTE.PROB: image labels that are given .* do not say which"):
            with_copy_paste(cfg, MultiTaskDatasetMapper(cfg, is_train=True), DatasetCatalog.get(name))


def test_records_and_loader_know_what_labels_an_image():
    labels = [("instance",), ("sem_seg",), ("classification", "instance"), ("sem_seg", "instance")]
    with toy_dataset(4, labels=labels) as name:
        for source, count in (("given", 1), ("instances", 3), ("sem_seg", 2)):
            cfg = make_cfg(source, dataset=name)
            keys = task_labels(cfg)
            assert count_labels(DatasetCatalog.get(name), cfg.MODEL.MTL.TASKS, keys) == {"classification": count}
            assert len(get_records([name], tasks=cfg.MODEL.MTL.TASKS, labels=keys)) == count
            batch = next(iter(build_multitask_train_loader(cfg)))
            assert all(sample["image_labels"].shape == (NUM_CLASSES[source],) for sample in batch)
            assert preflight(cfg)[name]["classification"] == count
    with pytest.raises(ValueError, match="INPUT.MTL.IMAGE_LABELS: found 'objects', expected one of 'given'"):
        task_labels(tiny_cfg(**{"INPUT.MTL.IMAGE_LABELS": "objects"}))


@pytest.mark.parametrize(
    ("source", "field"),
    [("given", "image_label_classes"), ("instances", "thing_classes"), ("sem_seg", "stuff_classes")],
)
def test_a_class_count_that_does_not_fit_the_data_is_refused_before_training(source, field):
    key = "MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES"
    with toy_dataset(2, labels=("instance", "sem_seg", "classification")) as name:
        found = rf"{key}: found 7, expected {NUM_CLASSES[source]}, as in {field} of dataset"
        with pytest.raises(DatasetError, match=found):
            preflight(make_cfg(source, dataset=name, **{key: 7}))


def test_a_task_without_a_label_is_refused_before_training():
    no_label = "found 'classification', but no image of DATASETS.TRAIN"
    with toy_dataset(2, labels=("sem_seg",)) as name, pytest.raises(DatasetError, match=no_label):
        preflight(make_cfg("given", dataset=name))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([2], ("in", "out"), r"'image_labels': found \[2\], expected a list of ids in \[0, 2\)"),
        ("in", ("in", "out"), "'image_labels': found 'in', expected a list of ids"),
        ([True], ("in", "out"), "expected a list of ids"),
        ([0], (), "found labels of the image, expected names in the schema's image_label_classes"),
    ],
)
def test_records_are_validated(record, labels, classes, message):
    schema = DatasetSchema(
        thing_classes=("a", "b"), stuff_classes=("w", "x", "y", "z"), stuff_ids=(0, 3), image_label_classes=classes
    )
    with pytest.raises(DatasetError, match=message):
        validate_records([{**record, "image_labels": labels}], schema, check_files=False)
    if classes:
        validate_records([record, {**record, "image_id": 2, "image_labels": []}], schema, check_files=False)


def test_datasets_with_other_labels_are_not_mixed():
    labels = ("instance", "classification")
    with toy_dataset(2, labels=labels) as one, toy_dataset(2, labels=labels) as other:
        cfg = make_cfg("given", dataset=one)
        cfg.DATASETS.TRAIN = (one, other)
        preflight(cfg)
        MetadataCatalog.get(other).image_label_classes[:] = ["bar", "box"]
        with pytest.raises(DatasetError, match="image_label_classes of .* differ from those of"):
            preflight(cfg)


def _coco(**changes):
    content = {
        "images": [{"id": 4, "file_name": "sub/a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 9, "name": "out"}, {"id": 1, "name": "in"}],
        "annotations": [{"image_id": 4, "category_id": i} for i in (9, 1, 9)],
    }
    return {**content, **changes}


def test_a_json_of_cocos_form_gives_labels(tmp_path):
    file = tmp_path / "labels.json"
    names = ["sub/a.jpg", "b.jpg", "c.jpg"]
    records: list[dict] = [{} for _ in names]
    file.write_text(json.dumps(_coco()))
    add_image_labels(records, names, ImageLabels(str(file), ("in", "out")), str(tmp_path))
    assert records == [{"image_labels": [0, 1]}, {"image_labels": []}, {}]
    file.write_text(json.dumps(_coco(annotations=[{"image_id": 5, "category_id": 1}])))
    with pytest.raises(DatasetError, match=r"labels.json: found no 5, expected images \(id, file_name\)"):
        add_image_labels(records, names, ImageLabels(str(file), ("in", "out")), str(tmp_path))
    file.write_text(json.dumps(_coco(categories=[{"id": 9, "name": "oot"}, {"id": 1, "name": "in"}])))
    with pytest.raises(DatasetError, match=r"'sub/a.jpg': found 'oot', .*did you mean 'out'"):
        add_image_labels(records, names, ImageLabels(str(file), ("in", "out")), str(tmp_path))


def test_images_are_counted_by_class():
    with toy_dataset(5, labels=("instance", "sem_seg", "classification"), seed=1) as name:
        records = [*DatasetCatalog.get(name), {"file_name": "unlabelled.png"}]
        for source, count in NUM_CLASSES.items():
            labels = [record_image_labels(record, source, count) for record in records[:-1]]
            found = count_image_labels(records, count, source)
            assert found.images.tolist() == found.samples.tolist() == np.sum(labels, axis=0).tolist()
            assert found.beside.tolist() == [5] * count


def test_the_check_of_a_dataset_counts_them():
    with toy_dataset(5, labels=[("instance", "classification")] * 4 + [("instance",)], seed=1) as name:
        report = check_dataset(name, jobs=0)
        labels = [record["image_labels"] for record in DatasetCatalog.get(name) if "image_labels" in record]
    counts = [sum(k in found for found in labels) for k in (0, 1)]
    assert report.errors == [] and report.statistics.labelled["classification"] == 4
    assert report.statistics.to_dict()["images_per_label"] == dict(zip(("box", "bar"), counts, strict=True))
    assert f"images by label: {'box' if counts[0] >= counts[1] else 'bar'} {max(counts)}" in render_statistics(
        report.statistics
    )
