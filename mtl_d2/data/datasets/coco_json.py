"""A COCO instances json in Detectron2's form, read within little more memory than its records take."""

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from mtl_d2.data.schema import DatasetError

logger = logging.getLogger(__name__)

Entry = dict[str, Any]

_KEPT = {  # what is kept of an entry; the first key tells the entries of a section from all others
    "annotations": ("image_id", "id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints", "ignore"),
    "images": ("file_name", "id", "height", "width"),
}
_LARGE, _MOST_SHARED = 1 << 28, 1 << 17  # bytes of a file, numbers
_ROUNDING = 0.01  # pixels by which a box may stick out before it is clipped
_FORMAT = "expected COCO's instances format ('images', 'annotations', 'categories')"


@dataclass
class CocoJson:
    """What a json holds.

    Attributes:
        path: of the file.
        categories: {id: name} by ascending id.
        images: id, file_name, height and width of each image by ascending id.
        annotations: {image id: its annotations}, in Detectron2's form but with the json's category ids; an image
            without an annotation has an empty list.
    """

    path: str
    categories: dict[int, str]
    images: list[Entry]
    annotations: dict[int | str, list[Entry]]


def read_coco_json(path: str | os.PathLike) -> CocoJson:
    """Read a json as Detectron2's ``load_coco_json`` does, with errors that name the entry.

    As there, polygons of less than three points are left out, and an annotation that had no other with them; keypoints
    are moved from pixel indices to coordinates (by 0.5). Beyond it, an "area" (pixels) above 0 is kept: COCO's scores
    are by it. Boxes that stick out of their image are clipped to it: no prediction does. Boxes that lie outside as a
    whole stay, for ``validate_records`` to refuse.

    Memory: the text of the file while it is parsed, and for each annotation about 0.8 kB and 9 bytes a coordinate of
    its polygons (40 in a file below 256 MB, where equal numbers are not shared, for speed), or 1.1 kB and its RLE.
    Measured on 200,000 annotations, peak without the file's text: 1.3 kB each with 64 coordinates
    (``load_coco_json``: 3.4), 1.3 kB with an RLE of 300 characters.

    Raises:
        DatasetError: the file is missing or no json of COCO's format, an id is there twice, or an annotation has an
            unknown category or a segmentation that is none.
    """
    path = os.fspath(path)
    content = _parse(path)
    categories = _categories(path, content["categories"])
    images = _images(path, content["images"])
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    annotations: dict[int | str, list[Entry]] = {image_id: [] for image_id in sizes}
    counts = {"without an image": 0, "without a valid polygon": 0, "with a box clipped to its image": 0}
    for entry in _annotations(path, content["annotations"]):
        size = sizes.get(entry["image_id"])
        if size is None:
            counts["without an image"] += 1
            continue
        if entry["category_id"] not in categories:
            raise _error(path, entry, f"category_id={entry['category_id']!r}, expected an id of 'categories'")
        annotation = _to_detectron2(path, entry, size)
        if annotation is None:
            counts["without a valid polygon"] += 1
            continue
        counts["with a box clipped to its image"] += _clip_box(annotation, size)
        annotations[entry["image_id"]].append(annotation)
    for what, count in counts.items():
        if count:
            verb = "Kept" if "clipped" in what else "Left out"
            logger.warning("%s: %s %d annotations %s", path, verb, count, what)
    return CocoJson(path, categories, images, annotations)


class _SharedNumbers(dict):
    """{text: number}. Coordinates have few decimals: one object for equal ones takes 8 bytes each instead of 40."""

    def __missing__(self, text: str) -> float:
        number = float(text)
        if len(self) < _MOST_SHARED:
            self[text] = number
        return number


def _trim(entry: Entry) -> Entry:
    """Drop what nobody reads while the file is parsed, so that it is never there as a whole."""
    for kept in _KEPT.values():
        if kept[0] in entry:
            return {key: entry[key] for key in kept if key in entry}
    return entry


def _parse(path: str) -> dict[str, list[Any]]:
    try:
        to_float = _SharedNumbers().__getitem__ if os.path.getsize(path) >= _LARGE else None
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_hook=_trim, parse_float=to_float)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read as json ({error}), {_FORMAT}; restore the file.") from error
    for section in ("images", "annotations", "categories"):
        found = content.get(section) if isinstance(content, dict) else None
        if not isinstance(found, list):
            raise DatasetError(
                f"{path}: '{section}': found {type(found).__name__}, expected a list: {_FORMAT}; correct it."
            )
        for index, entry in enumerate(found):
            if not isinstance(entry, dict):
                raise DatasetError(f"{path}: '{section}[{index}]': found {entry!r}, expected an object; remove it.")
    return content


def _categories(path: str, entries: list[Entry]) -> dict[int, str]:
    names: dict[int, str] = {}
    for index, entry in enumerate(entries):
        where, id_, name = f"{path}: 'categories[{index}]'", entry.get("id"), entry.get("name")
        if not isinstance(id_, int) or not isinstance(name, str) or not name:
            raise DatasetError(f"{where}: found {entry!r}, expected an integer 'id' and a 'name'; add them.")
        if id_ in names or name in names.values():
            raise DatasetError(f"{where}: found {entry!r}, expected unique ids and names; rename or remove it.")
        names[id_] = name
    if not names:
        raise DatasetError(f"{path}: 'categories': found none, expected one or more; add them.")
    return dict(sorted(names.items()))


def _images(path: str, entries: list[Entry]) -> list[Entry]:
    kinds = {"id": (int, str), "file_name": (str,), "height": (int,), "width": (int,)}
    seen: dict[str, set] = {"id": set(), "file_name": set()}
    for index, entry in enumerate(entries):
        for key, types in kinds.items():
            value, where = entry.get(key), f"{path}: 'images[{index}]': '{key}'"
            if not isinstance(value, types) or isinstance(value, bool):
                expected = " or ".join(kind.__name__ for kind in types)
                raise DatasetError(f"{where}: found {value!r}, expected {expected}; correct the entry.")
            if value in seen.get(key, ()):
                raise DatasetError(f"{where}: found {value!r} twice, expected it once; remove or rename one.")
            if key in seen:
                seen[key].add(value)
    if len({type(entry["id"]) for entry in entries}) > 1:
        raise DatasetError(f"{path}: 'images': found ids that are numbers and text, expected one of them; renumber.")
    return sorted(entries, key=lambda entry: entry["id"])


def _annotations(path: str, entries: list[Entry]) -> Iterator[Entry]:
    """The entries, each let go of when the next one is asked for."""
    seen: set = set()
    # The annotations of COCO's minival are known to repeat ids, and used by Detectron2 all the same.
    unique = "minival" not in path
    for index, entry in enumerate(entries):
        entries[index] = None  # type: ignore[call-overload]
        for key in ("id", "image_id", "category_id"):
            if not isinstance(entry.get(key), int | str):
                where = f"{path}: 'annotations[{index}]': '{key}'"
                raise DatasetError(f"{where}: found {entry.get(key)!r}, expected an id; add it.")
        if unique and entry["id"] in seen:
            raise _error(path, entry, "an id that another annotation has, expected unique ids")
        if entry.get("ignore"):
            raise _error(path, entry, f"ignore={entry['ignore']!r}, expected 0; mark it by 'iscrowd'")
        seen.add(entry["id"])
        yield entry


def _to_detectron2(path: str, entry: Entry, size: tuple[int, int]) -> Entry | None:
    """The annotation, None where none of its polygons is valid."""
    annotation: Entry = {key: entry[key] for key in ("iscrowd", "bbox", "category_id") if key in entry}
    annotation["bbox_mode"] = BoxMode.XYWH_ABS
    area = entry.get("area")
    if isinstance(area, int | float) and 0 < area < math.inf:
        annotation["area"] = area
    segmentation = entry.get("segmentation")
    if segmentation:
        try:
            if isinstance(segmentation, Mapping):
                if isinstance(segmentation["counts"], list):
                    segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
            else:
                segmentation = [polygon for polygon in segmentation if len(polygon) % 2 == 0 and len(polygon) >= 6]
        except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            found = f"a 'segmentation' that is neither RLE nor polygons ({type(error).__name__}: {error})"
            raise _error(path, entry, f"{found}, expected one of them for an image of {list(size)} pixels") from error
        if not segmentation:
            return None
        annotation["segmentation"] = segmentation
    if entry.get("keypoints"):
        annotation["keypoints"] = _move_keypoints(path, entry)
    return annotation


def _move_keypoints(path: str, entry: Entry) -> list[float]:
    keypoints = entry["keypoints"]
    if not isinstance(keypoints, list) or not all(isinstance(value, int | float) for value in keypoints):
        raise _error(path, entry, f"keypoints={keypoints!r}, expected [x, y, visibility, ...]")
    return [value if index % 3 == 2 else value + 0.5 for index, value in enumerate(keypoints)]


def _clip_box(annotation: Entry, size: tuple[int, int]) -> bool:
    """Whether the box stuck out of the image, of which only a part lies outside, and was clipped."""
    box, (height, width) = annotation.get("bbox"), size
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        return False  # for validate_records to refuse
    x0, y0, x1, y1 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    sticks_out = max(-x0, -y0, x1 - width, y1 - height) > _ROUNDING
    if not sticks_out or not (x0 < width and y0 < height and x1 > 0 and y1 > 0):
        return False
    x0, y0 = max(x0, 0), max(y0, 0)
    annotation["bbox"] = [x0, y0, min(x1, width) - x0, min(y1, height) - y0]
    return True


def _error(path: str, entry: Entry, found: str) -> DatasetError:
    where = f"{path}: annotation {entry['id']!r} of image {entry['image_id']!r}"
    return DatasetError(f"{where}: found {found}; correct or remove the annotation.")
