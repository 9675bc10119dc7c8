import copy
import json
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from mtl_d2.config import add_mtl_config
from mtl_d2.data import (
    DatasetError,
    DatasetSchema,
    load_coco_multitask,
    preflight,
    register_dataset,
    validate_records,
)
from tests.data.toy_coco import SCHEMA, H, W, write_toy_coco


@pytest.fixture
def toy(tmp_path):
    write_toy_coco(tmp_path)
    return tmp_path


@pytest.fixture
def records(toy):
    return load_coco_multitask(toy / "instances.json", toy / "images", toy / "semantic", "union")


def annotation(records):
    return records[0]["annotations"][0]


def test_good_records_pass(records):
    validate_records(records, SCHEMA, check_files=True)


def test_partly_labelled_records_pass(records):
    for key in ("annotations", "sem_seg_file_name", "edge_source"):
        del records[1][key]
    validate_records(records, SCHEMA, check_files=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r.clear(), "dataset 'toy': found no images"),
        (lambda r: r[1].pop("file_name"), "image 'number 1': 'file_name': found None, expected str"),
        (lambda r: r[0].update(height="20"), "a.jpg': 'height': found '20', expected int"),
        (lambda r: r[0].update(width=0), "a.jpg': 'width': found 0, expected a positive"),
        (lambda r: r[1].update(image_id=5), "'image_id': found 5 twice"),
        (lambda r: r[0].update(edge_source="mask"), "a.jpg': 'edge_source': found 'mask'"),
        (lambda r: r[0].pop("annotations"), "'edge_source': found 'union' without 'annotations'"),
        (lambda r: r[0].pop("sem_seg_file_name"), "'edge_source': found 'union' without 'sem_seg_file_name'"),
        (
            lambda r: annotation(r).update(category_id=2),
            r"annotation 0: 'category_id': found 2, expected .* \[0, 2\)",
        ),
        (lambda r: annotation(r).update(iscrowd=3), "annotation 0: 'iscrowd': found 3"),
        (lambda r: annotation(r).update(bbox=[1, 2, 3]), "'bbox': found .*, expected four"),
        (lambda r: annotation(r).update(bbox=[1, 2, float("nan"), 3]), "'bbox': found .*, expected four"),
        (lambda r: annotation(r).update(bbox=[1, 2, -3, 3]), "in XYWH_ABS, which has a negative side"),
        (
            lambda r: annotation(r).update(bbox=[9, 2, 3, 3], bbox_mode=BoxMode.XYXY_ABS),
            "in XYXY_ABS, which has a negative side",
        ),
        (lambda r: annotation(r).pop("bbox_mode"), "'bbox_mode': found None"),
        (lambda r: annotation(r).update(segmentation=[[1, 2, 3, 4]]), "neither RLE nor polygons"),
        (
            lambda r: annotation(r).update(segmentation={"size": [W, H], "counts": "0"}),
            r"RLE of size \[30, 20\], expected .* \[20, 30\]",
        ),
    ],
)
def test_a_bad_record_is_named_with_key_and_value(records, spoil, message):
    spoil(records)
    with pytest.raises(DatasetError, match=message):
        validate_records(records, SCHEMA, check_files=False, name="toy")


def test_semantic_labels_without_class_names_are_refused(records):
    schema = DatasetSchema(thing_classes=["cat", "dog"])
    with pytest.raises(DatasetError, match="'sem_seg_file_name': .* the schema has no stuff_classes"):
        validate_records(records, schema, check_files=False)


def write(path, pixels):
    cv2.imwrite(str(path), pixels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "images/a.jpg").unlink(), "'file_name': .*images/a.jpg does not exist"),
        (lambda d: (d / "images/a.jpg").write_bytes(b"no image"), "'file_name': .*a.jpg cannot be read"),
        (
            lambda d: write(d / "images/sub/b.jpg", np.zeros((H, H, 3), np.uint8)),
            "'file_name': .*b.jpg is 20x20 pixels, expected 30x20",
        ),
        (
            lambda d: (d / "semantic/sub/b.png").unlink(),
            "'sem_seg_file_name': .*semantic/sub/b.png does not exist",
        ),
        (lambda d: (d / "semantic/a.png").write_bytes(b"x" * 40), "'sem_seg_file_name': .*a.png is no PNG"),
        (
            lambda d: write(d / "semantic/a.png", np.zeros((W, H), np.uint8)),
            "'sem_seg_file_name': .*a.png is 20x30 pixels, expected 30x20",
        ),
        (lambda d: write(d / "semantic/a.png", np.zeros((H, W, 3), np.uint8)), "a.png has PNG colour type 2"),
        (lambda d: write(d / "semantic/a.png", np.zeros((H, W), np.uint16)), "a.png has .* 16 bits"),
        (
            lambda d: write(d / "semantic/a.png", np.full((H, W), 3, np.uint8)),
            "a.png holds the id 3, expected ids below 3, .* or 255",
        ),
        (
            lambda d: (d / "semantic/a.png").write_bytes((d / "semantic/a.png").read_bytes()[:45]),
            "'sem_seg_file_name': .*a.png cannot be read",
        ),
    ],
)
def test_a_bad_file_is_named_with_what_was_found(toy, records, spoil, message):
    spoil(toy)
    with pytest.raises(DatasetError, match=message):
        validate_records(records, SCHEMA, check_files=True)


def test_a_photograph_that_exif_turns_has_the_size_that_detectron2_reads(toy, records):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (H, W)).save(toy / "images" / "a.jpg", exif=exif)
    validate_records(records, SCHEMA, check_files=True)


@pytest.fixture
def cfg(records):
    names = ("toy_validate_train", "toy_validate_val")
    for name in names:
        register_dataset(name, lambda: copy.deepcopy(records), SCHEMA, replace=True)
    cfg = get_cfg()
    add_mtl_config(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2, 3
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = names[:1], names[1:]
    yield cfg
    for name in (*names, "toy_validate_other"):
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


def test_preflight_counts_the_labels_of_each_task(cfg, records):
    del records[1]["edge_source"]
    counts = {"images": 2, "instance": 2, "sem_seg": 2, "edge": 1}
    assert preflight(cfg) == {"toy_validate_train": counts, "toy_validate_val": counts}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATASETS.TRAIN", (), "DATASETS.TRAIN: found no dataset"),
        (
            "DATASETS.TRAIN",
            ("toy_validate_trian",),
            "'toy_validate_trian', .* did you mean 'toy_validate_train'",
        ),
        ("DATASETS.TEST", ("qqqq",), "DATASETS: found 'qqqq', .* register it"),
        (
            "MODEL.ROI_HEADS.NUM_CLASSES",
            80,
            "NUM_CLASSES: found 80, expected 2, as in thing_classes of dataset 'toy_",
        ),
        (
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
            54,
            "SEM_SEG_HEAD.NUM_CLASSES: found 54, expected 3, as in stuff_classes",
        ),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 0, "SEM_SEG_HEAD.IGNORE_VALUE: found 0, expected 255"),
    ],
)
def test_preflight_names_the_key_that_disagrees(cfg, key, value, message):
    cfg.merge_from_list([key, value])
    with pytest.raises(DatasetError, match=message):
        preflight(cfg)


def test_class_counts_of_tasks_that_are_not_trained_do_not_matter(cfg):
    cfg.MODEL.MTL.TASKS = ["edge"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    preflight(cfg)


@pytest.mark.parametrize("tasks", [["edge"], ["edge_coupling", "instance"], ["classification"]])
@pytest.mark.parametrize(("of_image", "of_edges"), [("sem_seg", ""), ("instances", "semantic")])
def test_void_of_maps_that_other_labels_are_made_from_is_the_datasets(cfg, tasks, of_image, of_edges):
    """Otherwise the outline of void would be an edge in training, and ignored in the score."""
    cfg.MODEL.MTL.TASKS = tasks
    cfg.INPUT.MTL.IMAGE_LABELS, cfg.INPUT.MTL.EDGE.SOURCE = of_image, of_edges
    cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES = 3 if of_image == "sem_seg" else 2
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 54  # of a task that is not trained
    preflight(cfg)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 20
    reads_map = tasks != ["classification"] or of_image == "sem_seg"
    with pytest.raises(DatasetError, match="IGNORE_VALUE: found 20, expected 255") if reads_map else nullcontext():
        preflight(cfg)
    cfg.INPUT.MTL.IMAGE_LABELS, cfg.INPUT.MTL.EDGE.SOURCE = "instances", "instance"
    cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES = 2
    preflight(cfg)


def test_preflight_names_the_key_whose_source_an_image_lacks(cfg, records):
    cfg.MODEL.MTL.TASKS = ["edge"]
    for record in records:
        record["edge_source"] = "instance"
    del records[1]["sem_seg_file_name"]
    preflight(cfg)
    cfg.INPUT.MTL.EDGE.SOURCE = "union"
    message = r"b.jpg: INPUT.MTL.EDGE.SOURCE 'union' needs 'sem_seg_file_name', .* take another source"
    with pytest.raises(DatasetError, match=message):
        preflight(cfg)
    records[1]["edge_file_name"] = records[0]["sem_seg_file_name"]  # a file of its own: nothing is derived
    preflight(cfg)


def test_preflight_names_a_task_without_labels_and_the_datasets(cfg, records):
    for record in records:
        del record["edge_source"]
    with pytest.raises(DatasetError, match=r"TASKS: found 'edge', but no image .*\(toy_validate_train\) .* remove"):
        preflight(cfg)


def test_a_test_set_without_any_label_is_refused(cfg, records):
    bare = [{k: r[k] for k in ("file_name", "height", "width", "image_id")} for r in records]
    register_dataset("toy_validate_other", lambda: bare, SCHEMA)
    cfg.DATASETS.TEST = ("toy_validate_other",)
    with pytest.raises(DatasetError, match="DATASETS.TEST: found 'toy_validate_other' without labels"):
        preflight(cfg)


def test_training_sets_with_other_classes_are_refused(cfg, records):
    schema = DatasetSchema(
        thing_classes=["dog", "cat"], stuff_classes=SCHEMA.stuff_classes, stuff_ids=[0], edge_source="union"
    )
    register_dataset("toy_validate_other", lambda: records, schema)
    cfg.DATASETS.TRAIN = ("toy_validate_train", "toy_validate_other")
    with pytest.raises(DatasetError, match="thing_classes of 'toy_validate_other' differ from those of 'toy_validate"):
        preflight(cfg)


@pytest.mark.parametrize("error", [FileNotFoundError("gone.json"), json.JSONDecodeError("bad", "", 0)])
def test_a_failing_loader_of_a_user_is_named(cfg, error):
    def fail():
        raise error

    register_dataset("toy_validate_other", fail, SCHEMA)
    cfg.DATASETS.TRAIN = ("toy_validate_other",)
    with pytest.raises(
        DatasetError, match=f"dataset 'toy_validate_other': its loader fails with {type(error).__name__}"
    ):
        preflight(cfg)


def test_the_files_of_all_annotators_are_checked(records, toy):
    paths = [str(toy / f"{name}.png") for name in "ab"]
    for path in paths:
        cv2.imwrite(path, np.zeros((H, W), np.uint8))
    records[0]["edge_file_name"] = paths
    validate_records(records, SCHEMA, check_files=True)
    cv2.imwrite(paths[1], np.zeros((W, H), np.uint8))
    with pytest.raises(DatasetError, match=r"'edge_file_name': .*b.png is 20x30 pixels, expected 30x20"):
        validate_records(records, SCHEMA, check_files=True)
    (toy / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"'edge_file_name': .*b.png does not exist"):
        validate_records(records, SCHEMA, check_files=True)
    records[0]["edge_file_name"] = []
    with pytest.raises(DatasetError, match="'edge_file_name': found an empty list, expected a file"):
        validate_records(records, SCHEMA, check_files=False)
