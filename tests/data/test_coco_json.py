"""The json reader gives what Detectron2's gives, and names the entry that is wrong."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from mtl_d2.data import DatasetError, register_all
from mtl_d2.data.datasets import coco_json, datasets_root
from mtl_d2.data.datasets.coco_json import read_coco_json
from tests.data.toy_coco import H, W, save, write_toy_coco


@pytest.fixture
def content(tmp_path):
    return write_toy_coco(tmp_path)


def first(content: dict) -> dict:
    return content["annotations"][0]


def read(folder, content):
    save(folder, content)
    return read_coco_json(folder / "instances.json")


def detectron2_annotations(json_file, image_root="") -> dict:
    try:
        records = load_coco_json(str(json_file), str(image_root), "coco_of_test_coco_json")
    finally:
        MetadataCatalog.pop("coco_of_test_coco_json", None)
    return {record["image_id"]: record["annotations"] for record in records}


def without_areas(annotations: dict) -> dict:
    """Detectron2's loader drops "area"."""
    return {
        image: [{key: value for key, value in entry.items() if key != "area"} for entry in entries]
        for image, entries in annotations.items()
    }


def with_contiguous_ids(coco) -> dict:
    order = list(coco.categories)
    for annotations in coco.annotations.values():
        for annotation in annotations:
            annotation["category_id"] = order.index(annotation["category_id"])
    return coco.annotations


def test_annotations_are_those_of_detectron2s_loader(tmp_path, content):
    first(content).update(keypoints=[1, 2, 2, 0, 0, 0], attributes={"image_id": 5, "file_name": "x"})
    one_bad, all_bad, empty = ({**first(content), "id": i, "iscrowd": 0} for i in (10, 11, 12))
    one_bad["segmentation"] = [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]
    all_bad["segmentation"] = [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]]
    empty["segmentation"] = []
    content["annotations"] += [one_bad, all_bad, empty, {**first(content), "id": 13, "image_id": 1000}]
    coco = read(tmp_path, content)
    assert coco.categories == {3: "cat", 7: "dog"}
    assert [image["file_name"] for image in coco.images] == ["a.jpg", "sub/b.jpg"]
    found = with_contiguous_ids(coco)
    assert without_areas(found) == detectron2_annotations(tmp_path / "instances.json")
    assert len(found[5]) == 5 and found[9] == []


@pytest.mark.parametrize("family", ["nuclei", "coco_mini"])
def test_real_data_is_that_of_detectron2s_loader(family):
    if not (datasets_root() / family).is_dir():
        pytest.skip(f"{family} is not under {datasets_root()}: set DETECTRON2_DATASETS")
    register_all()
    records = DatasetCatalog.get(f"{family}_val")
    expected = detectron2_annotations(datasets_root() / family / "instances_val.json")
    assert without_areas({record["image_id"]: record["annotations"] for record in records}) == expected


@pytest.mark.parametrize("bad", [None, 0, -4.5, float("nan"), float("inf"), "60", [60]])
def test_an_area_is_kept_where_it_is_one(tmp_path, content, bad):
    for annotation, area in zip(content["annotations"], (31.5, bad, 7), strict=True):
        annotation["area"] = area
    found = read(tmp_path, content).annotations[5]
    assert [annotation.get("area") for annotation in found] == [31.5, None, 7]


def test_a_box_that_sticks_out_is_clipped_and_one_outside_is_left_for_the_check(tmp_path, content):
    boxes = [[-4, 2, 10, 30], [25, 2, 5.001, 6], [40, 2, 10, 6]]
    for annotation, box in zip(content["annotations"], boxes, strict=True):
        annotation["bbox"] = box
    found = read(tmp_path, content).annotations[5]
    assert [annotation["bbox"] for annotation in found] == [[0, 2, 6, H - 2], boxes[1], boxes[2]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: first(c).update(category_id=99), "annotation 1 of image 5: found category_id=99, expected an id of"),
        (lambda c: first(c).update(id=2), "annotation 2 of image 5: found an id that another annotation has"),
        (lambda c: first(c).update(ignore=1), "annotation 1 of image 5: found ignore=1"),
        (lambda c: first(c).update(keypoints="abc"), "annotation 1 of image 5: found keypoints='abc'"),
        (lambda c: first(c).update(segmentation=5), "annotation 1 of image 5: found a 'segmentation' that is neither"),
        (
            lambda c: first(c).update(segmentation={"counts": [1]}),
            "annotation 1 of image 5: found a 'segmentation' .*KeyError",
        ),
        (lambda c: first(c).pop("image_id"), r"'annotations\[0\]': 'image_id': found None"),
        (lambda c: first(c).update(category_id=[1]), r"'annotations\[0\]': 'category_id': found \[1\]"),
        (lambda c: c["annotations"].append(7), r"'annotations\[3\]': found 7, expected an object"),
        (lambda c: c["images"][0].pop("height"), r"'images\[0\]': 'height': found None, expected int"),
        (lambda c: c["images"][0].update(width=30.5), r"'images\[0\]': 'width': found 30.5, expected int"),
        (lambda c: c["images"][1].update(id=5), r"'images\[1\]': 'id': found 5 twice"),
        (lambda c: c["images"][1].update(id="5"), "'images': found ids that are numbers and text"),
        (lambda c: c["images"][1].update(file_name="a.jpg"), r"'images\[1\]': 'file_name': found 'a.jpg' twice"),
        (lambda c: c["categories"][1].update(name="dog"), r"'categories\[1\]': found .*expected unique ids and names"),
        (lambda c: c["categories"][0].pop("name"), r"'categories\[0\]': found .*expected an integer 'id' and a 'name'"),
        (lambda c: c["categories"].clear(), "'categories': found none"),
        (lambda c: c.pop("categories"), "'categories': found NoneType, expected a list: .*COCO's instances format"),
        (lambda c: c.update(annotations={}), "'annotations': found dict, expected a list"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, content, spoil, message):
    spoil(content)
    with pytest.raises(DatasetError, match=f"instances.json: {message}"):
        read(tmp_path, content)


@pytest.mark.parametrize("text", ["", "{", '{"images": [', "[1, 2]", "null", "[" * 100_000, "\xff"])
def test_an_empty_or_broken_json_is_named(tmp_path, text):
    (tmp_path / "instances.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"instances.json: .*expected .*COCO's instances format .*; \w+"):
        read_coco_json(tmp_path / "instances.json")


def test_large_files_share_equal_numbers(tmp_path, content, monkeypatch):
    first(content)["bbox"] = [1.25, 2.5, 1.25, 1e-3]
    plain = read(tmp_path, content)
    monkeypatch.setattr(coco_json, "_LARGE", 0)
    monkeypatch.setattr(coco_json, "_MOST_SHARED", 1)
    shared = read(tmp_path, content)
    assert shared == plain
    box = shared.annotations[5][0]["bbox"]
    assert box[0] is box[2]


def test_what_nobody_reads_is_not_kept(tmp_path, content):
    first(content)["attributes"] = {"occluded": True}
    content["images"][0]["coco_url"] = "somewhere"
    coco = read(tmp_path, content)
    assert "attributes" not in json.dumps([coco.images, coco.annotations[5][0]])
    assert set(coco.images[0]) == {"id", "file_name", "height", "width"} and (W, H) == (30, 20)
