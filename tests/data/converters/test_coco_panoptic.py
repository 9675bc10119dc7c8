import json
import shutil

import numpy as np
import pycocotools.mask as mask_util
import pytest
import yaml

from mtl_d2.data import BrokenSampleError, DatasetError
from mtl_d2.data.converters import convert_dataset
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from tests.data.converters.loading import load, photo, read, train_one_step, write_image

H, W = 48, 65
CATEGORIES = [
    {"id": 12, "name": "grass-merged", "isthing": 0},  # below that of a thing
    {"id": 18, "name": "dog", "isthing": 1},
    {"id": 187, "name": "sky-other-merged", "isthing": 0},
    {"id": 1, "name": "person", "isthing": 1},
]
PERSON, CROWD, DOG, SKY, GRASS = 7, 5 + 256 * 3, 1 + 65536 * 2, 44 + 256, 255 + 256 * 255 + 65536 * 255
REGIONS = {  # rows, columns
    SKY: np.s_[0:10, :],
    GRASS: np.s_[10:48, 0:60],
    PERSON: np.s_[12:30, 4:14],
    DOG: np.s_[20:26, 20:35],
    CROWD: np.s_[30:40, 40:58],
}  # and void in columns 60 to 64, below the sky


def colours() -> np.ndarray:
    rgb = np.zeros((H, W, 3), np.uint8)
    for value, region in REGIONS.items():
        rgb[region] = value % 256, value // 256 % 256, value // 65536
    return rgb


def segment(value: int, category: int, iscrowd: int = 0) -> dict:
    return {"id": value, "category_id": category, "iscrowd": iscrowd, "bbox": [0, 0, 1, 1], "area": 1}


@pytest.fixture
def source(tmp_path):
    """An image with all kinds of segments, one of void alone, and one that is not annotated."""
    folder = tmp_path / "coco"
    segments = [segment(PERSON, 1), segment(CROWD, 1, 1), segment(DOG, 18), segment(SKY, 187), segment(GRASS, 12)]
    segments.append(segment(99, 18))  # without a pixel
    content = {
        "images": [
            {"id": i, "file_name": f"{i:012d}.jpg", "height": H, "width": W, "license": 1} for i in (285, 139, 632)
        ],
        "annotations": [
            {"image_id": 285, "file_name": "000000000285.png", "segments_info": segments},
            {"image_id": 139, "file_name": "000000000139.png", "segments_info": []},
        ],
        "categories": CATEGORIES,
    }
    for image in content["images"]:
        write_image(folder / "val2017" / image["file_name"], photo(H, W))
    pngs = folder / "annotations" / "panoptic_val2017"
    write_image(pngs / "000000000285.png", colours())
    write_image(pngs / "000000000139.png", np.zeros((H, W, 3), np.uint8))
    save(folder, content)
    return folder


def save(folder, content):
    (folder / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content))


def convert(source, output, **options):
    return convert_dataset("coco_panoptic", source, output, splits=["val2017"], **options)


def test_semantics_have_all_classes_things_first_and_void(source, tmp_path):
    assert convert(source, tmp_path / "out") == {"val2017": 2}
    expected = np.full((H, W), 255, np.uint8)
    for value, class_id in ((GRASS, 2), (SKY, 3), (PERSON, 0), (DOG, 1), (CROWD, 0)):
        expected[REGIONS[value]] = class_id
    assert np.array_equal(read(tmp_path / "out" / "semantic" / "val2017" / "000000000285.png"), expected)
    assert (read(tmp_path / "out" / "semantic" / "val2017" / "000000000139.png") == 255).all()
    description = yaml.safe_load((tmp_path / "out" / "val2017.yaml").read_text())
    assert description == {
        "name": "out_val2017",
        "images": str(source / "val2017"),
        "split": "val2017.txt",
        "instances": "instances_val2017.json",
        "thing_classes": ["person", "dog"],
        "semantic": {
            "folder": "semantic/val2017",
            "classes": ["person", "dog", "grass-merged", "sky-other-merged"],
            "stuff": ["grass-merged", "sky-other-merged"],
            "ignore_label": 255,
        },
        "edges": {"derive": "union"},
        "max_dets": 100,
    }


def test_things_are_instances_and_crowds_are_kept(source, tmp_path):
    convert(source, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "instances_val2017.json").read_text())
    assert content["images"] == [
        {"id": i, "file_name": f"{i:012d}.jpg", "height": H, "width": W} for i in (285, 139)
    ]  # the image without annotations is not labelled
    assert content["categories"] == [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    found = [(a["id"], a["category_id"], a["iscrowd"], a["bbox"], a["area"]) for a in content["annotations"]]
    assert found == [  # boxes and areas are those of the pixels, not those of the json
        (1, 1, 0, [4, 12, 10, 18], 180),
        (2, 1, 1, [40, 30, 18, 10], 180),
        (3, 18, 0, [20, 20, 15, 6], 90),
    ]
    for annotation, value in zip(content["annotations"], (PERSON, CROWD, DOG), strict=True):
        mask = np.zeros((H, W), np.uint8)
        mask[REGIONS[value]] = 1
        assert annotation["image_id"] == 285
        assert np.array_equal(mask_util.decode(annotation["segmentation"]), mask)


def test_it_is_read_back_and_trained_on(source, tmp_path):
    convert(source, tmp_path / "out")
    first, second = load(tmp_path / "out" / "val2017.yaml")
    assert [a["category_id"] for a in first["annotations"]] == [0, 0, 1]
    assert second["annotations"] == []
    edges = ground_truth_edges(first)
    assert (edges[33:37, 44:54] == 255).all()  # the crowd
    assert edges[22, 3] == 1 and edges[22, 34] == 1  # left of the person, right of the dog
    assert (edges[9, 20:50] == 1).all()  # between sky and grass
    assert (ground_truth_edges(second) == 255).all()
    losses = train_one_step(tmp_path / "out" / "val2017.yaml", ("instance", "sem_seg", "edge"))
    assert losses["loss_sem_seg"] > 0 and losses["loss_mask"] > 0 and losses["loss_edge"] > 0


@pytest.mark.parametrize("to_images", ["{source}/val2017", "../../coco/val2017"])
def test_names_that_go_round_about_into_the_image_folder_write_below_the_output_alone(source, tmp_path, to_images):
    """Below another folder, such a name would lead to the image itself, or out of the output."""
    images = source / "val2017"
    write_image(images / "285.png", photo(H, W))
    content = json.loads((source / "annotations" / "panoptic_val2017.json").read_text())
    content["images"][0]["file_name"] = f"{to_images.format(source=source)}/285.png"
    save(source, content)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    convert(source, tmp_path / "out", copy=True)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: files[path] for path in before} == before
    assert all(path.is_relative_to(tmp_path / "out") for path in set(files) - set(before))
    assert files[tmp_path / "out/images/val2017/285.png"] == before[images / "285.png"]
    assert (read(tmp_path / "out/semantic/val2017/285.png")[REGIONS[SKY]] == 3).all()
    load(tmp_path / "out" / "val2017.yaml")


def _unknown_segment(source, content):
    content["annotations"][0]["segments_info"].pop(0)


def _unknown_category(source, content):
    content["annotations"][0]["segments_info"][0]["category_id"] = 77


def _other_size(source, content):
    write_image(source / "val2017" / "000000000285.jpg", photo(W, H))


def _gray(source, content):
    write_image(source / "annotations" / "panoptic_val2017" / "000000000285.png", colours()[:, :, 0])


def _no_png(source, content):
    (source / "annotations" / "panoptic_val2017" / "000000000285.png").unlink()


def _no_image(source, content):
    (source / "val2017" / "000000000285.jpg").unlink()


def _no_images(source, content):
    shutil.rmtree(source / "val2017")


def _instances_json(source, content):
    for category in content["categories"]:
        del category["isthing"]


def _outside(source, content):
    content["annotations"][0]["file_name"] = "../../secret.png"


def _twice(source, content):
    content["categories"][0]["name"] = "dog"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_unknown_segment, "285.png: found the segment id 7, expected one of those in its 'segments_info'"),
        (_unknown_category, "'segments_info' of 000000000285.png: found the category_id 77"),
        (_other_size, r"285.jpg: found 48 x 65 pixels \(width x height\), expected 65 x 48, the size of its labels"),
        (_gray, "285.png: found one channel, expected an RGB image"),
        (_no_png, "285.png: no such file, expected the panoptic PNG"),
        (_no_image, "285.jpg: no such file, expected an image"),
        (_no_images, "val2017: no such folder, expected the images"),
        (_instances_json, r"panoptic_val2017.json: KeyError \('isthing'\), expected COCO's panoptic format"),
        (_outside, "'file_name' of image 285: found '../../secret.png', expected a file inside"),
        (_twice, "found 'dog' more than once"),
    ],
)
def test_wrong_input_is_one_sentence(source, tmp_path, spoil, message):
    content = json.loads((source / "annotations" / "panoptic_val2017.json").read_text())
    spoil(source, content)
    save(source, content)
    with pytest.raises(DatasetError, match=message):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out" / "val2017.yaml").exists()


def test_a_truncated_png_is_named(source, tmp_path):
    png = source / "annotations" / "panoptic_val2017" / "000000000285.png"
    png.write_bytes(png.read_bytes()[:100])
    with pytest.raises(BrokenSampleError, match="285.png: cannot be read"):
        convert(source, tmp_path / "out")
