"""COCO's panoptic format: one json per split, and PNGs whose colours are segment ids.

The id of a pixel is R + 256 G + 65536 B, and 0 is void ("Panoptic Segmentation", Kirillov et al. 2019). Layout:

    annotations/panoptic_<split>.json
    annotations/panoptic_<split>/      the PNGs
    <split>/                           the images

Made of it: instances of the things, crowds among them; semantics of all classes, the things first, each by
ascending category id; edges derived from both.
"""

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_d2.data.converters.annotations import annotations_from_ids
from mtl_d2.data.converters.files import name_inside, read_json, read_pixels, require_folder
from mtl_d2.data.converters.split import Item, Labels, Split
from mtl_d2.data.schema import DatasetError

SUMMARY = "COCO's panoptic format: COCO 2017, and other sets in it"
SPLITS = ("train2017", "val2017")
VOID = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


def find_splits(source: Path, splits: Sequence[str]) -> list[Split]:
    """The splits below ``source``; the json files are read, no image is.

    Raises:
        DatasetError: a file or folder is missing, or the json is not in the panoptic format.
    """
    return [_find_split(source, name) for name in splits]


def _find_split(source: Path, name: str) -> Split:
    file = source / "annotations" / f"panoptic_{name}.json"
    content = read_json(file, "the panoptic annotations")
    folder = require_folder(file.with_suffix(""), "the panoptic PNGs, unpacked")
    images = require_folder(source / name, "the images")
    try:
        categories = sorted(content["categories"], key=lambda c: (not c["isthing"], c["id"]))
        entries = {image["id"]: image for image in content["images"]}
        items = [_item(annotation, entries, images, folder, file) for annotation in content["annotations"]]
        things = {c["id"]: c["name"] for c in categories if c["isthing"]}
        stuff = [c["name"] for c in categories if not c["isthing"]]
        classes = {c["id"]: i for i, c in enumerate(categories)}
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{file}: {type(error).__name__} ({error}), expected COCO's panoptic format ('images', 'annotations' "
            "with 'segments_info', 'categories' with 'isthing'); correct the file."
        ) from error
    read = functools.partial(read_labels, classes=classes, things=frozenset(things), json_file=file)
    names = [category["name"] for category in categories]
    return Split(name, str(images), items, read, things, names, stuff, edge_source="union" if things else "semantic")


def _item(annotation: dict[str, Any], entries: Mapping[int, dict], images: Path, folder: Path, file: Path) -> Item:
    image = entries[annotation["image_id"]]
    where = f"{file}: 'file_name' of image {image['id']}"
    file_name = name_inside(images, image["file_name"], where)
    png = folder / name_inside(folder, annotation["file_name"], where)
    segments = {s["id"]: (s["category_id"], bool(s.get("iscrowd", 0))) for s in annotation["segments_info"]}
    return Item(image["id"], file_name, (png, segments))


def read_labels(item: Item, *, classes: Mapping[int, int], things: frozenset[int], json_file: Path) -> Labels:
    """Labels of an image; ``item.source`` is its PNG and (category id, crowd) by segment id.

    A segment without a pixel in the PNG is left out.

    Args:
        item: the image.
        classes: semantic id by category id.
        things: category ids of the things.
        json_file: for messages.

    Raises:
        DatasetError: the PNG has no colours, or an id of the PNG or a category is not in the json.
    """
    png, segments = item.source
    ids = segment_ids(read_pixels(png, "the panoptic PNG of an image"), png)
    values, inverse = np.unique(ids, return_inverse=True)
    sem_seg = np.full(len(values), VOID, np.uint8)
    for index, value in enumerate(values.tolist()):
        if value:
            sem_seg[index] = _class_of(value, segments, classes, png, json_file)
    objects = {i: segment for i, segment in segments.items() if i and segment[0] in things}
    return Labels(ids.shape, annotations_from_ids(ids, objects), sem_seg[inverse.reshape(ids.shape)])


def segment_ids(pixels: np.ndarray, png: Path) -> np.ndarray:
    """(H, W) int32 ids of an RGB image; a fourth channel is left aside.

    Raises:
        DatasetError: it has fewer than three channels.
    """
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise DatasetError(
            f"{png}: found one channel, expected an RGB image whose colours are segment ids; take the PNGs of the "
            "panoptic annotations, not semantic ones."
        )
    red, green, blue = (pixels[:, :, channel].astype(np.int32) for channel in range(3))
    return red + 256 * green + 65536 * blue


def _class_of(
    value: int,
    segments: Mapping[int, tuple[int, bool]],
    classes: Mapping[int, int],
    png: Path,
    json_file: Path,
) -> int:
    if value not in segments:
        raise DatasetError(
            f"{png}: found the segment id {value}, expected one of those in its 'segments_info' in {json_file}; "
            "take PNGs and json of one release."
        )
    category = segments[value][0]
    if category not in classes:
        raise DatasetError(
            f"{json_file}: 'segments_info' of {png.name}: found the category_id {category}, expected one of "
            "'categories'; correct the entry."
        )
    return classes[category]
