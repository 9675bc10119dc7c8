"""Broken files and annotations are handled as Detectron2 does, or refused before a training: never in the middle."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mtl_d2.data import DatasetError, MultiTaskDatasetMapper, preflight, register_description
from mtl_d2.data.annotation_geometry import rle_counts
from mtl_d2.data.file_ends import truncation
from mtl_d2.testing import tiny_cfg
from tests.data.toy_coco import H, W, box_mask, save, write_toy_coco

SEMANTIC = {"folder": "semantic", "classes": ["sky", "cat", "dog"], "stuff": ["sky"]}
NOISE = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)


@pytest.fixture
def toy(tmp_path):
    write_toy_coco(tmp_path)
    yield tmp_path
    DatasetCatalog.pop("toy", None)
    MetadataCatalog.pop("toy", None)


def check_and_map(folder: Path) -> dict:
    """Preflight, then every image through the mapper; the model's input of a.jpg."""
    keys = {"images": "images", "instances": "instances.json", "semantic": SEMANTIC, "edges": {"derive": "union"}}
    (folder / "toy.yaml").write_text(yaml.safe_dump(keys))
    cfg = tiny_cfg(dataset=register_description(folder / "toy.yaml"))
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    preflight(cfg)
    mapper = MultiTaskDatasetMapper(cfg, is_train=True)
    return [mapper(record) for record in DatasetCatalog.get("toy")][0]


def change(folder: Path, **keys) -> None:
    """Change the first annotation; a value that is a function takes it out."""
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"][0].update(keys)
    save(folder, content)


def encoded(mask: np.ndarray) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def test_objects_without_any_mask_are_told_to_a_mask_head(toy, caplog):
    content = json.loads((toy / "instances.json").read_text())
    check_and_map(toy)
    assert "no object of dataset" not in caplog.text
    for annotation in content["annotations"]:
        annotation.pop("segmentation", None)
    save(toy, content)
    keys = {"images": "images", "instances": "instances.json"}
    (toy / "boxes.yaml").write_text(yaml.safe_dump(keys))
    cfg = tiny_cfg(["instance"], dataset=register_description(toy / "boxes.yaml"))
    preflight(cfg)
    assert "MODEL.MASK_ON is True, but no object of dataset 'boxes' has a mask" in caplog.text
    DatasetCatalog.pop("boxes"), MetadataCatalog.pop("boxes")


LONG = {"size": [H, W], "counts": encoded(np.ones((H, W + 1), np.uint8))["counts"]}
SHORT = {"size": [H, W], "counts": encoded(box_mask()[:, :-1])["counts"]}


@pytest.mark.parametrize(
    ("keys", "instances"),
    [
        ({"bbox": [-5, -5, 20, 20]}, 2),  # clipped
        ({"bbox": [20, 10, 100, 100]}, 2),
        ({"bbox": [3, 2, 0, 6]}, 1),  # dropped: it has no area
        ({"segmentation": [[3, 2, 13, 2, 13, 8], [1, 1, 2, 2]]}, 2),  # a polygon of two points beside a good one
        ({"segmentation": [[1, 1, 2, 2]]}, 1),
        ({"segmentation": [[100, 100, 120, 100, 120, 120]]}, 1),  # outlines outside of the image
        ({"segmentation": [[-9, -9, 90, -9, 90, 90, -9, 90]]}, 2),
        ({"segmentation": {"size": [H, W], "counts": [0, 60, H * W - 60]}}, 2),
    ],
)
def test_annotations_that_detectron2_takes_are_taken(toy, keys, instances):
    change(toy, **keys)
    found = check_and_map(toy)["instances"]
    assert len(found) == instances
    boxes = found.gt_boxes.tensor
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= boxes.new_tensor(found.image_size[::-1])).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bbox": [40, 2, 5, 5]}, r"a.jpg', annotation 0: 'bbox': found \[40, 2, 5, 5\], which lies outside"),
        ({"bbox": [-9, 2, 5, 5]}, "which lies outside of the image, expected a box in 30x20 pixels"),
        ({"bbox": [3, 2, -5, 5]}, "annotation 0: 'bbox': .* negative side"),
        ({"bbox": [3, 2, 5]}, "annotation 0: 'bbox': .*expected four finite numbers"),
        ({"bbox": [3, 2, float("nan"), 5]}, "annotation 0: 'bbox': .*expected four finite numbers"),
        ({"bbox": ["3", 2, 5, 5]}, "annotation 0: 'bbox': .*expected four finite numbers"),
        ({"bbox": None}, "annotation 0: 'bbox': found None"),
        ({"iscrowd": 2}, "annotation 0: 'iscrowd': found 2"),
        ({"segmentation": {"size": [W, H], "counts": encoded(box_mask().T)["counts"]}}, r"RLE of size \[30, 20\]"),
        ({"segmentation": LONG}, "annotation 0: 'segmentation': found an RLE with broken run lengths.*600 pixels"),
        ({"segmentation": SHORT}, "found an RLE with broken run lengths"),
        ({"segmentation": {"size": [H, W], "counts": [0, 5]}}, "found an RLE with broken run lengths"),
        ({"segmentation": {"size": [H, W], "counts": "~~~"}}, "found an RLE with broken run lengths"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("inf")]]}, "'segmentation': found neither RLE nor polygons"),
        ({"segmentation": [["a"] * 6]}, "annotation 0: 'segmentation': found neither RLE nor polygons"),
        ({"category_id": 5}, "instances.json: annotation 1 of image 5: found category_id=5, expected an id"),
        ({"id": 2}, "instances.json: annotation 2 of image 5: found an id that another annotation has"),
    ],
)
def test_annotations_that_would_end_a_run_are_refused_before_it(toy, keys, message):
    change(toy, **keys)
    with pytest.raises(DatasetError, match=message):
        check_and_map(toy)


def write_image(folder: Path, image: Image.Image, **options) -> None:
    (folder / "images" / "a.jpg").unlink()
    image.save(folder / "images" / "a.jpg", **options)  # what it is stands in its first bytes, not in its name


def turned(folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    write_image(folder, Image.fromarray(NOISE.transpose(1, 0, 2).copy()), exif=exif)


def linked(folder: Path) -> None:
    (folder / "images" / "a.jpg").rename(folder / "elsewhere.jpg")
    (folder / "images" / "a.jpg").symlink_to(folder / "elsewhere.jpg")


def appended(folder: Path) -> None:
    with open(folder / "images" / "a.jpg", "ab") as file:
        file.write(os.urandom(5000))


@pytest.mark.parametrize(
    "write",
    [
        lambda d: write_image(d, Image.fromarray(NOISE[:, :, 0])),
        lambda d: write_image(d, Image.fromarray(np.dstack([NOISE, NOISE[:, :, :1]])), format="PNG"),
        lambda d: write_image(d, Image.fromarray(NOISE).convert("CMYK")),
        lambda d: write_image(d, Image.fromarray(NOISE[:, :, 0].astype(np.uint16) * 256), format="PNG"),
        turned,
        linked,
        appended,
    ],
    ids=["1 channel", "4 channels", "CMYK", "16 bits", "EXIF", "link", "data after the end"],
)
def test_images_of_every_kind_are_read(toy, write):
    write(toy)
    assert check_and_map(toy)["image"].shape[0] == 3


def cut(path: Path, share: float) -> None:
    if path.suffix == ".jpg":
        Image.fromarray(NOISE).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda d: cut(d / "images/a.jpg", 0.9), "'file_name': .*a.jpg cannot be read to its end .*truncated"),
        (lambda d: cut(d / "images/a.jpg", 0), "'file_name': .*a.jpg cannot be read to its end .it is empty"),
        (lambda d: cut(d / "semantic/a.png", 0.8), "'sem_seg_file_name': .*a.png cannot be read to its end"),
        (
            lambda d: cv2.imwrite(str(d / "semantic/a.png"), box_mask().astype(np.uint16)),
            "'sem_seg_file_name': .*a.png has PNG colour type 0 and 16 bits",
        ),
        (
            lambda d: cv2.imwrite(str(d / "semantic/a.png"), np.dstack([box_mask()] * 4)),
            "'sem_seg_file_name': .*a.png has PNG colour type 6",
        ),
    ],
)
def test_files_that_would_end_a_run_are_refused_before_it(toy, write, message):
    write(toy)
    with pytest.raises(DatasetError, match=message):
        check_and_map(toy)


def test_palette_labels_are_ids_by_index(toy):
    palette = Image.fromarray(box_mask() * 2)
    palette.putpalette([255, 255, 255, 128, 0, 0, 0, 128, 0] + [0] * (3 * 253))
    palette.save(toy / "semantic" / "a.png")
    assert check_and_map(toy)["sem_seg"].unique().tolist() == [0, 2]


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_of_a_mask_add_up_to_its_pixels(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 700, 2)
    mask = cv2.resize((rng.random((9, 9)) < rng.random()).astype(np.uint8), (int(width), int(height)))
    rle = mask_util.encode(np.asfortranarray(mask))
    for counts in (rle["counts"], rle["counts"].decode()):
        assert rle_counts({**rle, "counts": counts}).sum() == height * width
    broken = (rle["counts"][:-1] + b"o", b"", [3, -1], ["a"])  # of the first, the last character promises another one
    assert all(rle_counts({**rle, "counts": counts}) is None for counts in broken)


def readable(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError):
        return False
    return True


def test_a_whole_file_is_told_from_one_that_broke_off_at_any_place(tmp_path):
    for name in ("a.jpg", "a.png"):
        path = tmp_path / name
        Image.fromarray(NOISE).save(path)
        content = path.read_bytes()
        assert truncation(str(path)) is None
        for size in range(2, len(content), 37):
            path.write_bytes(content[:size])
            assert (truncation(str(path)) is None) == readable(path), size
