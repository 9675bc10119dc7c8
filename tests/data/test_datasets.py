import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mtl_d2.data import (
    DatasetError,
    DatasetSchema,
    load_coco_multitask,
    register_all,
    register_coco_multitask,
    validate_records,
)
from mtl_d2.data.datasets import datasets_root
from tests.data.toy_coco import SCHEMA, H, W, box_mask, save, write_toy_coco

NAMES = [
    f"{family}_{split}"
    for family in ("shapes", "shapes_rare", "shapes_easy", "shapes_easy_rare", "nuclei", "coco_mini")
    for split in ("train", "val")
]
NAMES += [f"{family}_{split}_mtl" for family in ("coco_2017", "cityscapes_fine") for split in ("train", "val")]


@pytest.fixture
def toy(tmp_path):
    write_toy_coco(tmp_path)
    return tmp_path


def load(folder: Path, **options) -> list[dict]:
    options = {"edge_source": "union", "thing_classes": SCHEMA.thing_classes, **options}
    return load_coco_multitask(folder / "instances.json", folder / "images", folder / "semantic", **options)


def test_polygons_and_both_rles_give_the_mask_and_crowds_are_kept(toy):
    first, second = load(toy)
    polygon, compressed, crowd = first["annotations"]
    assert [a["category_id"] for a in first["annotations"]] == [0, 1, 1]
    assert polygon["segmentation"] == [[3, 2, 13, 2, 13, 8, 3, 8]]
    np.testing.assert_array_equal(mask_util.decode(compressed["segmentation"]), box_mask())
    assert crowd["iscrowd"] == 1 and mask_util.decode(crowd["segmentation"]).sum() == H * W
    assert second["annotations"] == []  # present and empty: labelled
    assert second["sem_seg_file_name"] == str(toy / "semantic" / "sub" / "b.png")
    assert first["edge_source"] == second["edge_source"] == "union"
    validate_records([first, second], SCHEMA, check_files=True)


def test_a_missing_semantic_label_means_unlabelled_only_if_asked_for(toy):
    (toy / "semantic" / "a.png").unlink()
    assert all("sem_seg_file_name" in record for record in load(toy))
    first, second = load(toy, partial=True)
    assert "sem_seg_file_name" not in first and "edge_source" not in first
    assert "sem_seg_file_name" in second and "edge_source" in second
    assert "edge_source" in load(toy, partial=True, edge_source="instance")[0]


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/hostname", "sub/../../secret.jpg", "."])
def test_a_path_that_leaves_the_image_folder_is_refused(toy, path):
    content = write_toy_coco(toy / "other")
    content["images"][0]["file_name"] = path
    save(toy / "other", content)
    with pytest.raises(DatasetError, match=r"other/instances.json: 'file_name' of image 5: found .* inside"):
        load(toy / "other")


@pytest.mark.parametrize("to_images", ["{images}", "../images", "./sub/.."])
def test_labels_are_called_after_the_image_however_the_json_leads_to_it(toy, to_images):
    """Joined with a label folder, such a name would lead to the image itself, or elsewhere."""
    plain = load(toy)
    content = json.loads((toy / "instances.json").read_text())
    for image in content["images"]:
        image["file_name"] = f"{to_images.format(images=toy / 'images')}/{image['file_name']}"
    save(toy, content)
    assert load(toy) == plain
    assert plain[0]["sem_seg_file_name"] == str(toy / "semantic" / "a.png")


def test_a_link_to_the_image_folder_is_fine(toy):
    (toy / "images").rename(toy / "real")
    (toy / "images").symlink_to(toy / "real")
    assert len(load(toy)) == 2


def test_categories_of_other_names_are_refused(toy):
    content = write_toy_coco(toy / "other")
    content["categories"][0]["name"] = "bird"
    save(toy / "other", content)
    message = r"'categories': found 2 \(cat, bird\), expected the 2 thing_classes .*\(cat, dog\)"
    with pytest.raises(DatasetError, match=f"other/instances.json: {message}"):
        load(toy / "other")


@pytest.fixture
def toy_name():
    name = "toy_of_test_datasets"
    yield name
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)


def test_registering_reads_nothing_and_replacing_renews_the_metadata(toy, toy_name, tmp_path):
    register_coco_multitask(toy_name, SCHEMA, "nowhere.json", "nowhere")
    with pytest.raises(DatasetError, match=f"dataset '{toy_name}': nowhere.json does not exist; set DETECTRON2"):
        DatasetCatalog.get(toy_name)
    paths = (toy / "instances.json", toy / "images", toy / "semantic")
    register_coco_multitask(toy_name, SCHEMA, *paths)  # the name is taken: left as it is
    assert MetadataCatalog.get(toy_name).json_file == "nowhere.json"
    register_coco_multitask(toy_name, SCHEMA, *paths, replace=True)
    assert MetadataCatalog.get(toy_name).sem_seg_root == str(toy / "semantic")
    assert len(DatasetCatalog.get(toy_name)) == 2


def test_every_dataset_of_the_project_is_registered_with_a_valid_schema():
    register_all()
    for name in NAMES:
        assert name in DatasetCatalog.list()
        assert DatasetSchema.from_metadata(MetadataCatalog.get(name)).edge_source != "none"


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_folder_is_named_with_what_to_do(name, tmp_path):
    register_all(tmp_path / "absent")
    try:
        with pytest.raises(DatasetError) as error:
            DatasetCatalog.get(name)
    finally:
        register_all(datasets_root())
    assert str(error.value).startswith(f"dataset '{name}': {tmp_path / 'absent'}")
    assert "does not exist" in str(error.value) and "set DETECTRON2_DATASETS" in str(error.value)


@pytest.mark.parametrize(
    ("family", "images", "instances", "max_dets", "semantic_classes"),
    [("nuclei", (464, 100), (20082, 4611), 400, 2), ("coco_mini", (26, 11), None, 100, 133)],
)
def test_real_data_loads_and_passes_every_check(family, images, instances, max_dets, semantic_classes):
    if not (datasets_root() / family).is_dir():
        pytest.skip(f"{family} is not under {datasets_root()}: set DETECTRON2_DATASETS")
    register_all()
    for split, count in zip(("train", "val"), images, strict=True):
        name = f"{family}_{split}"
        records = DatasetCatalog.get(name)
        schema = DatasetSchema.from_metadata(MetadataCatalog.get(name))
        assert len(records) == count
        assert schema.max_dets == max_dets and len(schema.stuff_classes) == semantic_classes
        validate_records(records, schema, check_files=True, name=name)
        if instances is not None:
            assert sum(len(r["annotations"]) for r in records) == instances[split == "val"]
