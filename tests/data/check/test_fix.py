"""What can be corrected without a guess is corrected in a copy, which then passes; the rest is kept and said."""

import json

import pytest
import yaml

from mtl_d2.data import DatasetError, register_description
from mtl_d2.data.check import check_dataset
from mtl_d2.data.check.fix import fix_dataset
from tests.data.check.planting import PLANTS
from tests.data.check.toy_set import NAME, forget, register, valid_set

FIXABLE = [
    *(name for name in PLANTS if name.startswith("box ")),
    *("polygon without area", "RLE of nothing", "annotation id twice", "image null"),
    *("path that leaves", "path absolute", "path a number", "image missing", "image truncated", "image of text"),
    *("height negative", "height of text", "width null"),
    *("label missing", "label of 16 bits", "label with a palette", "label without image"),
]


@pytest.fixture(autouse=True)
def _forget():
    yield
    forget(NAME, f"{NAME}_fixed")


def fixed(toy, tmp_path, **options):
    toy.write(tmp_path / "data")
    report = check_dataset(register(tmp_path / "data"), jobs=0)
    before = snapshot(tmp_path / "data")
    fix = fix_dataset(report, tmp_path / "copy", **options)
    assert snapshot(tmp_path / "data") == before, "the dataset itself is left as it is"
    return fix, check_dataset(fix.name, jobs=0).faults


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def content(tmp_path):
    return json.loads((tmp_path / "copy" / "instances.json").read_text())


@pytest.mark.parametrize("name", FIXABLE)
def test_what_is_fixable_passes_afterwards(name, tmp_path):
    toy = valid_set()
    PLANTS[name](toy, 2)
    fix, faults = fixed(toy, tmp_path)
    assert faults == [] and sum(fix.done.values()) >= 1


@pytest.mark.parametrize("name", sorted(set(PLANTS) - set(FIXABLE)))
def test_what_takes_a_guess_remains_and_is_said(name, tmp_path):
    toy = valid_set()
    planted = PLANTS[name](toy, 2)
    _, faults = fixed(toy, tmp_path)
    assert any(fault.kind == planted.kind for fault in faults)
    assert len(content(tmp_path)["images"]) >= 6


def test_a_valid_set_is_copied_unchanged_by_links_or_files(tmp_path):
    toy = valid_set()
    fix, faults = fixed(toy, tmp_path, copy=True)
    assert faults == [] and not fix.done and content(tmp_path) == toy.content
    copied = {k: v for k, v in snapshot(tmp_path / "copy").items() if k.suffix == ".png"}
    assert sorted(copied.values()) == sorted(toy.files.values()) and not any(path.is_symlink() for path in copied)


def test_an_absolute_name_leads_to_the_copy_afterwards(tmp_path):
    toy = valid_set()
    toy.content["images"][2]["file_name"] = str(tmp_path / "data" / "images" / "2.png")
    _, faults = fixed(toy, tmp_path)
    assert faults == [] and content(tmp_path) == valid_set().content


def test_boxes_are_clipped_and_taken_from_masks_to_the_pixel(tmp_path):
    toy = valid_set()
    toy.annotation(0)["bbox"] = [-3, 6, 15, 10]  # clipped, it fits the mask but for 4 pixels on the left
    toy.annotation(1)["bbox"] = [0, 0, 1, 1]
    toy.annotation(2, 1)["bbox"] = [18, 10, 10, 0]
    del toy.annotation(3)["segmentation"], toy.annotation(3, 1)["segmentation"]
    toy.annotation(3)["bbox"] = [20, 25, 30, 30]
    fixed(toy, tmp_path)
    boxes = {entry["id"]: entry["bbox"] for entry in content(tmp_path)["annotations"]}
    assert boxes[1] == [4, 6, 8, 10] and boxes[3] == [4, 6, 8, 10] and boxes[6] == [18, 10, 10, 20]
    assert boxes[7] == [20, 25, 12, 7]


def test_a_wrong_size_is_taken_from_the_file_only_where_the_labels_agree(tmp_path):
    toy = valid_set()
    for image in (1, 2):
        toy.content["images"][image]["height"] = 40
    del toy.annotation(2, 1)["segmentation"]
    toy.annotation(2, 1)["bbox"] = [18, 10, 10, 30]  # reaches to row 40
    fix, faults = fixed(toy, tmp_path)
    assert [entry["height"] for entry in content(tmp_path)["images"]] == [32, 32, 40, 32, 32, 32]
    assert fix.done["took sizes of images from their files"] == 1
    assert {fault.kind for fault in faults} >= {"size"}


def test_a_removed_image_takes_its_annotations_with_it(tmp_path):
    toy = valid_set()
    toy.files["images/4.png"] = b"broken"
    fix, faults = fixed(toy, tmp_path)
    assert faults == [] and {entry["image_id"] for entry in content(tmp_path)["annotations"]} == {1, 2, 3, 4, 6}
    assert fix.done["removed images whose file cannot be read"] == 1
    assert fix.done["removed annotations of images that were removed"] == 2


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    toy = valid_set()
    toy.write(tmp_path)
    report = check_dataset(register(tmp_path), jobs=0)
    with pytest.raises(DatasetError, match="exists and is not empty"):
        fix_dataset(report, tmp_path)


def test_the_copy_is_described(tmp_path):
    fix, _ = fixed(valid_set(), tmp_path)
    description = yaml.safe_load(fix.description.read_text())
    assert description["thing_classes"] == ["cat", "dog"] and description["edges"] == {"derive": "union"}
    assert description["semantic"]["stuff"] == ["background"] and description["images"] == "images"


def test_a_described_dataset_is_fixed_with_its_split_and_its_class_map(tmp_path):
    toy = valid_set()
    PLANTS["box NaN"](toy, 1)
    PLANTS["image of text"](toy, 2)
    del toy.content["images"][5], toy.content["annotations"][-2:]  # 5.png has no instances, but a semantic label
    toy.write(tmp_path / "data")
    (tmp_path / "data" / "split.txt").write_text("1.png\n2.png\n5.png\n")
    labels = {str(tmp_path / "data/images/1.png"): ["pet"], "5.png": []}  # by an absolute name too
    (tmp_path / "data" / "labels.json").write_text(json.dumps(labels))
    keys = {
        "name": NAME,
        "images": "images",
        "split": "split.txt",
        "instances": "instances.json",
        "semantic": {"folder": "semantic", "classes": ["background", "cat", "dog"], "stuff": ["background"]},
        "class_map": {"things": {"cat": "animal", "dog": "animal"}, "semantic": {"dog": None}},
        "image_labels": {"file": "labels.json", "classes": ["pet"]},
    }
    (tmp_path / "data" / "toy.yaml").write_text(yaml.safe_dump(keys))
    report = check_dataset(register_description(tmp_path / "data" / "toy.yaml"), jobs=0)
    assert sorted(fault.kind for fault in report.faults) == ["box_numbers", "unreadable"]
    fix = fix_dataset(report, tmp_path / "copy")
    fixed_report = check_dataset(fix.name, jobs=0)
    assert fixed_report.faults == [] and fixed_report.statistics.labelled["images"] == 2
    assert fixed_report.schema.thing_classes == ("animal",)
    assert json.loads((tmp_path / "copy" / "image_labels.json").read_text()) == {"1.png": ["pet"], "5.png": []}
    assert fixed_report.statistics.semantic_pixels[[1, 255]].tolist() == [2 * 80, 2 * (200 + 4)]
