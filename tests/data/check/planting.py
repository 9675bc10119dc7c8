"""Faults to plant: each spoils one image of the toy set, and says what a check has to report of it."""

import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.data.check.toy_set import SIZE, ToySet, jpeg, label, png, rle

NAN = float("nan")


class Planted(NamedTuple):
    """The kind, the end of the file's name, the field that a report must have."""

    kind: str
    file: str
    field: str


Plant = Callable[[ToySet, int], Planted]

JSON = "instances.json"


def _set(field: str, value: object, kind: str, number: int = 0) -> Plant:
    """Another value in an annotation."""

    def plant(toy: ToySet, image: int) -> Planted:
        toy.annotation(image, number)[field] = value
        return Planted(kind, JSON, field)

    return plant


def _image_key(field: str, value: object, kind: str) -> Plant:
    def plant(toy: ToySet, image: int) -> Planted:
        toy.content["images"][image][field] = value
        return Planted(kind, JSON, field)

    return plant


def _file(folder: str, spoil: Callable[[bytes], bytes | None], kind: str) -> Plant:
    field = {"images": "file_name", "semantic": "sem_seg_file_name"}[folder]

    def plant(toy: ToySet, image: int) -> Planted:
        name = f"{folder}/{image}.png"
        data = spoil(toy.files.pop(name))
        if data is not None:
            toy.files[name] = data
        return Planted(kind, name, field)

    return plant


def _label(pixels: np.ndarray | Image.Image, kind: str) -> Plant:
    return _file("semantic", lambda _: png(pixels), kind)


def _image(pixels: np.ndarray, kind: str, save: Callable[..., bytes] = png, **options: object) -> Plant:
    return _file("images", lambda _: save(pixels, **options), kind)


def _drop(field: str, kind: str) -> Plant:
    def plant(toy: ToySet, image: int) -> Planted:
        del toy.annotation(image)[field]
        return Planted(kind, JSON, field)

    return plant


def _repeat(section: str, kind: str, field: str, **changes: object) -> Plant:
    """A second entry with the id of another."""

    def plant(toy: ToySet, image: int) -> Planted:
        toy.content[section].append({**toy.content[section][image], **changes})
        return Planted(kind, JSON, field)

    return plant


def _append(section: str, entry: object, kind: str, field: str) -> Plant:
    def plant(toy: ToySet, image: int) -> Planted:
        toy.content[section].append(entry)
        return Planted(kind, JSON, field)

    return plant


def orphan(toy: ToySet, image: int) -> Planted:
    toy.files[f"semantic/sub/orphan_{image}.png"] = png(label())
    return Planted("label_orphan", f"sub/orphan_{image}.png", "sem_seg_file_name")


def palette() -> Image.Image:
    paletted = Image.fromarray(label())
    paletted.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    return paletted


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 3
    return exif


def _with(ids: np.ndarray, value: int) -> np.ndarray:
    ids[0, 5] = value
    return ids


_GRAY = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE), np.uint8)
_OTHER_RLE = {"size": [SIZE, SIZE + 1], "counts": "0"}
_FLAT = {"size": [SIZE, SIZE], "counts": [SIZE * SIZE]}
_UNKNOWN = {"id": 900, "image_id": 77, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}

# Of one image each, so that several stand beside each other.
PLANTS: dict[str, Plant] = {
    "box outside": _set("bbox", [20, 20, 30, 5], "box_outside"),
    "box beyond the origin": _set("bbox", [-9, 6, 21, 10], "box_outside"),
    "box zero": _set("bbox", [4, 6, 0, 10], "box_zero"),
    "box negative": _set("bbox", [4, 6, -8, 10], "box_negative"),
    "box NaN": _set("bbox", [4, NAN, 8, 10], "box_numbers"),
    "box infinite": _set("bbox", [4, 6, 8, float("inf")], "box_numbers"),
    "box of three": _set("bbox", [4, 6, 8], "box_numbers"),
    "box empty": _set("bbox", [], "box_numbers"),
    "box of text": _set("bbox", "4 6 8 10", "box_numbers"),
    "box of texts": _set("bbox", ["4", "6", "8", "10"], "box_numbers"),
    "box missing": _drop("bbox", "box_numbers"),
    "box off its polygon": _set("bbox", [4, 6, 14, 10], "box_mask"),
    "box off its RLE": _set("bbox", [14, 10, 14, 20], "box_mask", 1),
    "polygon of two points": _set("segmentation", [[4, 6, 12, 16]], "polygon"),
    "polygon of an odd number": _set("segmentation", [[4, 6, 12, 6, 12, 16, 4]], "polygon"),
    "polygon NaN": _set("segmentation", [[4, 6, 12, 6, NAN, 16]], "polygon"),
    "polygon of text": _set("segmentation", "polygon", "polygon"),
    "polygon outside": _set("segmentation", [[4, 6, 12, 6, 12, 60, 4, 60]], "polygon_outside"),
    "polygon without area": _set("segmentation", [[4, 6, 12, 6, 8, 6]], "mask_empty"),
    "RLE of another size": _set("segmentation", _OTHER_RLE, "rle_size", 1),
    "RLE without counts": _set("segmentation", {"size": [SIZE, SIZE]}, "rle_size", 1),
    "RLE of text": _set("segmentation", {"size": [SIZE, SIZE], "counts": "not an RLE"}, "rle_counts", 1),
    "RLE cut": _set("segmentation", {**rle(label() == 2), "counts": rle(label() == 2)["counts"][:-3]}, "rle_counts", 1),
    "RLE too long": _set("segmentation", {"size": [SIZE, SIZE], "counts": [100, 2000]}, "rle_counts", 1),
    "RLE negative": _set("segmentation", {"size": [SIZE, SIZE], "counts": [-5, SIZE * SIZE + 5]}, "rle_counts", 1),
    "RLE of nothing": _set("segmentation", _FLAT, "mask_empty", 1),
    "no mask": _drop("segmentation", "mask_missing"),
    "category unknown": _set("category_id", 9, "category"),
    "category of text": _set("category_id", "cat", "category"),
    "crowd of three": _set("iscrowd", 3, "iscrowd"),
    "keypoint half": _set("keypoints", [4, 6], "keypoints"),
    "ignored": _set("ignore", 1, "ignore"),
    "annotation of no image": _set("image_id", 99, "annotation_image"),
    "annotation id missing": _drop("id", "annotation_id"),
    "annotation id twice": _repeat("annotations", "annotation_id_twice", "id"),
    "annotation null": _append("annotations", None, "entry", "annotations"),
    "annotation of a stranger": _append("annotations", _UNKNOWN, "annotation_image", "image_id"),
    "image id twice": _repeat("images", "image_id_twice", "id", file_name="5.png"),
    "image twice": _repeat("images", "image_twice", "file_name", id=500),
    "image null": _append("images", 7, "entry", "images"),
    "category id twice": _append("categories", {"id": 1, "name": "cow"}, "category_id_twice", "id"),
    "category nameless": _append("categories", {"id": 8}, "category_name", "name"),
    "path that leaves": _image_key("file_name", "../../etc/hosts", "path_outside"),
    "path absolute": _image_key("file_name", "/etc/hosts", "path_outside"),
    "path a number": _image_key("file_name", 5, "image_key"),
    "height negative": _image_key("height", -1, "image_key"),
    "height of text": _image_key("height", "32", "image_key"),
    "width null": _image_key("width", None, "image_key"),
    "image missing": _file("images", lambda _: None, "missing"),
    "image truncated": _file("images", lambda data: data[: len(data) // 2], "unreadable"),
    "image of text": _file("images", lambda _: b"no image", "unreadable"),
    "image of another size": _image(np.zeros((SIZE, SIZE + 3, 3), np.uint8), "size"),
    "image turned": _image(np.dstack([_GRAY] * 3), "exif", jpeg, exif=turned()),
    "image of 16 bits": _image(_GRAY.astype(np.uint16) * 256, "image_depth"),
    "label missing": _file("semantic", lambda _: None, "missing"),
    "label truncated": _file("semantic", lambda data: data[:60], "unreadable"),
    "label a JPEG": _file("semantic", lambda _: jpeg(label()), "label_png"),
    "label empty": _file("semantic", lambda _: b"", "label_png"),
    "label of 16 bits": _label(label().astype(np.uint16), "label_png"),
    "label of colours": _label(np.dstack([label()] * 3), "label_png"),
    "label with a palette": _label(palette(), "label_palette"),
    "label of another size": _label(label()[:-1], "size"),
    "label with an unknown id": _label(_with(label(), 3), "label_ids"),
    "label without image": orphan,
}

# What spoils the whole json.
WHOLE = {
    "not json": lambda toy: json.dumps(toy.content).encode()[:-20],
    "a list": lambda toy: b"[]",
    "empty": lambda toy: b"",
    "no images": lambda toy: json.dumps({**toy.content, "images": []}).encode(),
    "no categories": lambda toy: json.dumps({**toy.content, "categories": None}).encode(),
    "nested": lambda toy: b"[" * 100_000,
}
