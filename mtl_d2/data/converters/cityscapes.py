"""Cityscapes: fine annotations, from the PNGs or, where there are none, from the polygons.

Layout, per image:

    leftImg8bit/<split>/<city>/<name>_leftImg8bit.png
    gtFine/<split>/<city>/<name>_gtFine_instanceIds.png, _labelIds.png or _labelTrainIds.png, _polygons.json

Made of it: instances of the 8 classes that have some, regions of objects that were not told apart ("cargroup") as
crowds; semantics of the 19 classes by their train ids; edges derived from both. No package is needed for it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mtl_d2.data.converters.annotations import annotations_from_ids
from mtl_d2.data.converters.cityscapes_labels import BY_NAME, CLASSES, LABELS, STUFF, THINGS, Label
from mtl_d2.data.converters.files import read_json, read_pixels, require_folder
from mtl_d2.data.converters.split import Item, Labels, Split
from mtl_d2.data.schema import DatasetError

SUMMARY = "Cityscapes, fine annotations"
SPLITS = ("train", "val")
VOID = 255
_IMAGE = "_leftImg8bit.png"
_OBJECT = 1000  # an id in instanceIds is that of a label, or _OBJECT * label + number of the object
_UNKNOWN = 254  # in the table of train ids
_NO_ID = 0xFFFF  # how -1 looks in a PNG of 16 bits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


def find_splits(source: Path, splits: Sequence[str]) -> list[Split]:
    """The splits below ``source``; no file is read.

    Raises:
        DatasetError: a folder is missing.
    """
    things, classes = {label.id: label.name for label in THINGS}, [label.name for label in CLASSES]
    stuff = [label.name for label in STUFF]
    result = []
    for name in splits:
        images = require_folder(source / "leftImg8bit" / name, "the images of a split, by city")
        labels = require_folder(source / "gtFine" / name, "the fine annotations of a split, by city")
        result.append(Split(name, str(images), _items(images, labels), read_labels, things, classes, stuff, "union"))
    return result


def _items(images: Path, labels: Path) -> list[Item]:
    items = []
    for number, path in enumerate(sorted(images.rglob(f"*{_IMAGE}")), start=1):
        relative = path.relative_to(images).as_posix()
        items.append(Item(number, relative, str(labels / relative.removesuffix(_IMAGE)) + "_gtFine"))
    return items


def read_labels(item: Item) -> Labels:
    """Labels of an image; ``item.source`` is what the names of its label files begin with.

    Objects come from instanceIds, or from the polygons; without both, the image is unlabelled for instances.
    Semantics come from labelIds, labelTrainIds or, without both, from where the objects come from.

    Raises:
        DatasetError: none of these files is there, or one holds a label that Cityscapes does not have.
    """
    base = item.source
    ids, source = _object_ids(base)
    sem_seg = _semantics(base, ids, source)
    if ids is None:
        return Labels(sem_seg.shape, None, sem_seg)
    if ids.shape != sem_seg.shape:
        raise DatasetError(
            f"{source}: found {ids.shape[1]} x {ids.shape[0]} pixels (width x height), expected "
            f"{sem_seg.shape[1]} x {sem_seg.shape[0]}, the size of the semantic labels beside it; restore the files."
        )
    return Labels(sem_seg.shape, annotations_from_ids(ids, _objects(ids)), sem_seg)


def _object_ids(base: str) -> tuple[np.ndarray | None, Path]:
    """(H, W) int32 ids as in instanceIds, and from which file."""
    png, polygons = Path(f"{base}_instanceIds.png"), Path(f"{base}_polygons.json")
    if png.is_file():
        ids = _one_channel(png).astype(np.int32)
        ids[ids == _NO_ID] = 0
        return ids, png
    return (draw_polygons(polygons) if polygons.is_file() else None), polygons


def _semantics(base: str, ids: np.ndarray | None, source: Path) -> np.ndarray:
    label_ids, train_ids = Path(f"{base}_labelIds.png"), Path(f"{base}_labelTrainIds.png")
    if label_ids.is_file():
        return _to_train_ids(_one_channel(label_ids), label_ids)
    if train_ids.is_file():
        return _checked_train_ids(_one_channel(train_ids), train_ids)
    if ids is None:
        raise DatasetError(
            f"{base}_*: found no labels, expected _instanceIds.png, _labelIds.png, _labelTrainIds.png or "
            "_polygons.json; restore them, or remove the image."
        )
    return _to_train_ids(np.where(ids >= _OBJECT, ids // _OBJECT, ids), source)


def draw_polygons(path: Path) -> np.ndarray:
    """(H, W) int32 ids as in instanceIds: the polygons, each over those before it.

    A region of several objects ("cargroup") has the id of its label alone; a label whose id is negative (license
    plate) is not drawn, so that its pixels stay those of the car.

    Raises:
        DatasetError: the file is no polygon file, or has an unknown label.
    """
    content = read_json(path, "polygons")
    counts: dict[str, int] = {}
    try:
        image = Image.new("I", (content["imgWidth"], content["imgHeight"]), BY_NAME["unlabeled"].id)
        draw = ImageDraw.Draw(image)
        for entry in content["objects"]:
            if entry.get("deleted"):
                continue
            label, is_group = _named(entry["label"], path)
            value = label.id
            if label.has_instances and not is_group:
                value = label.id * _OBJECT + counts.get(label.name, 0)
                counts[label.name] = counts.get(label.name, 0) + 1
            if value >= 0:
                draw.polygon([(x, y) for x, y in entry["polygon"]], fill=value)
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: {type(error).__name__} ({error}), expected Cityscapes' polygons ('imgHeight', 'imgWidth', "
            "'objects' with 'label' and 'polygon'); restore the file."
        ) from error
    return np.array(image, np.int32)


def _named(name: str, path: Path) -> tuple[Label, bool]:
    """The label, and whether the region holds several objects of it."""
    if name in BY_NAME:  # first: "polegroup" is a label of its own
        return BY_NAME[name], False
    if name.removesuffix("group") in BY_NAME:
        return BY_NAME[name.removesuffix("group")], True
    raise DatasetError(f"{path}: found the label {name!r}, expected a label of Cityscapes; correct the file.")


def _objects(ids: np.ndarray) -> dict[int, tuple[int, bool]]:
    """Category id and crowd, by id in instanceIds."""
    things = {label.id for label in THINGS}
    values = np.unique(ids).tolist()
    labels = {value: value // _OBJECT if value >= _OBJECT else value for value in values}
    return {value: (label, value < _OBJECT) for value, label in labels.items() if label in things}


def _to_train_ids(label_ids: np.ndarray, path: Path) -> np.ndarray:
    table = np.full(256, _UNKNOWN, np.uint8)
    for label in LABELS:
        table[label.id] = VOID if label.ignored else label.train_id  # -1 is the last place, as it is in 8 bits
    known = (label_ids >= 0) & (label_ids < 256)
    train_ids = np.where(known, table[np.where(known, label_ids, 0)], np.uint8(_UNKNOWN))
    if (train_ids == _UNKNOWN).any():
        found = int(label_ids[train_ids == _UNKNOWN][0])
        raise DatasetError(f"{path}: found the label id {found}, expected 0 to 33; restore the file.")
    return train_ids


def _checked_train_ids(train_ids: np.ndarray, path: Path) -> np.ndarray:
    wrong = (train_ids >= len(CLASSES)) & (train_ids != VOID)
    if wrong.any():
        found = int(train_ids[wrong][0])
        raise DatasetError(f"{path}: found the train id {found}, expected 0 to 18, or 255; make it anew.")
    return train_ids.astype(np.uint8)


def _one_channel(path: Path) -> np.ndarray:
    pixels = read_pixels(path, "labels")
    if pixels.ndim != 2:
        raise DatasetError(
            f"{path}: found {pixels.shape[2]} channels, expected one id per pixel; take the file of that name, "
            "not the coloured one."
        )
    return pixels
