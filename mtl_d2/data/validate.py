"""Checks of records: labels that fit the schema, files that exist and agree with the record."""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from mtl_d2.data.annotation_geometry import check_geometry
from mtl_d2.data.file_ends import truncation
from mtl_d2.data.images import upright_size
from mtl_d2.data.schema import EDGE_SOURCES, DatasetError, DatasetSchema
from mtl_d2.structures import LabelMapError, edge_files, read_semantic_ids

HEADER_SAMPLE = 2048  # images whose header is opened; label headers are 29 bytes and are all read
LABEL_SAMPLE = 64  # semantic labels whose pixels are read
_GREY, _PALETTE = 0, 3  # PNG colour types
_THREADS = 8  # the work is waiting for a disk


def validate_records(records: Sequence[dict], schema: DatasetSchema, *, check_files: bool, name: str = "") -> None:
    """Check the records of a dataset against its schema.

    Args:
        records: dataset dicts; an absent label key means unlabelled, a present and empty one labelled.
        schema: see :meth:`DatasetSchema.from_metadata`.
        check_files: also that all files exist and are not cut off, that the semantic labels (by their headers, all)
            and images (HEADER_SAMPLE of them) have the record's size, and that LABEL_SAMPLE labels hold known ids.
        name: of the dataset, for messages.

    Raises:
        DatasetError: the first problem, with file or key, what was found and what to do.
    """
    where = f"dataset '{name}'" if name else "dataset"
    if len(records) == 0:
        raise DatasetError(f"{where}: found no images, expected at least one; check its json file and folders.")
    seen: set = set()
    for index, record in enumerate(records):
        _check_record(record, schema, f"{where}, image {record.get('file_name', f'number {index}')!r}")
        if record["image_id"] in seen:
            raise DatasetError(
                f"{where}: 'image_id': found {record['image_id']!r} twice, expected unique ids; renumber the images."
            )
        seen.add(record["image_id"])
    if check_files:
        _check_files(records, schema)


def _check_record(record: dict, schema: DatasetSchema, where: str) -> None:
    for key, kinds in (("file_name", str), ("height", int), ("width", int), ("image_id", (int, str))):
        if not isinstance(record.get(key), kinds):
            raise DatasetError(f"{where}: '{key}': found {record.get(key)!r}, expected {_type_name(kinds)}; add it.")
    for key in ("height", "width"):
        if record[key] <= 0:
            raise DatasetError(f"{where}: '{key}': found {record[key]}, expected a positive number of pixels.")
    if "sem_seg_file_name" in record and not schema.stuff_classes:
        raise DatasetError(
            f"{where}: 'sem_seg_file_name': found a semantic label, but the schema has no stuff_classes; "
            "name the semantic classes there."
        )
    _check_edge_keys(record, where)
    for number, annotation in enumerate(record.get("annotations", ())):
        _check_annotation(annotation, record, schema, f"{where}, annotation {number}")


def _check_edge_keys(record: dict, where: str) -> None:
    source = record.get("edge_source", "none")
    if "edge_file_name" in record and not edge_files(record):
        raise DatasetError(
            f"{where}: 'edge_file_name': found an empty list, expected a file, or one of each annotator; leave the "
            "key out for an image without edge label."
        )
    if source not in EDGE_SOURCES:
        known = ", ".join(map(repr, EDGE_SOURCES))
        raise DatasetError(f"{where}: 'edge_source': found {source!r}, expected one of {known}.")
    for kind, key in (("instance", "annotations"), ("semantic", "sem_seg_file_name")):
        if source in (kind, "union") and key not in record:
            raise DatasetError(
                f"{where}: 'edge_source': found {source!r} without '{key}', expected {kind} labels to "
                "derive edges from; leave edge_source out for this image."
            )


def _check_annotation(annotation: dict, record: dict, schema: DatasetSchema, where: str) -> None:
    category, count = annotation.get("category_id"), len(schema.thing_classes)
    if not isinstance(category, int) or not 0 <= category < count:
        raise DatasetError(
            f"{where}: 'category_id': found {category!r}, expected a contiguous id in [0, {count}), an "
            "index of thing_classes; map the dataset's ids."
        )
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise DatasetError(f"{where}: 'iscrowd': found {annotation['iscrowd']!r}, expected 0 or 1.")
    try:
        _check_box(annotation, where)
        if "segmentation" in annotation:
            _check_segmentation(annotation["segmentation"], record, where)
        check_geometry(annotation, (record["height"], record["width"]), where)
    except TypeError as error:
        raise DatasetError(f"{where}: found 'bbox' or 'segmentation' without numbers ({error}); correct it.") from error


def _check_box(annotation: dict, where: str) -> None:
    box, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    if mode not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        raise DatasetError(
            f"{where}: 'bbox_mode': found {mode!r}, expected BoxMode.XYXY_ABS or BoxMode.XYWH_ABS; set it."
        )
    if box is None or len(box) != 4 or not all(math.isfinite(v) for v in box):
        raise DatasetError(f"{where}: 'bbox': found {box!r}, expected four finite numbers; correct it.")
    x, y, far_x, far_y = box
    width, height = (far_x, far_y) if mode == BoxMode.XYWH_ABS else (far_x - x, far_y - y)
    if width < 0 or height < 0:  # COCO itself has boxes of height 0; the loader drops those
        raise DatasetError(
            f"{where}: 'bbox': found {list(box)} in {BoxMode(mode).name}, which has a negative side; check bbox_mode."
        )


def _check_segmentation(segmentation: list | dict, record: dict, where: str) -> None:
    if isinstance(segmentation, dict):
        expected = [record["height"], record["width"]]
        if list(segmentation.get("size", ())) != expected or "counts" not in segmentation:
            raise DatasetError(
                f"{where}: 'segmentation': found an RLE of size {segmentation.get('size')}, expected "
                f"'counts' and the image's [height, width] {expected}; encode the mask at the image's size."
            )
    elif not isinstance(segmentation, list) or any(len(p) < 6 or len(p) % 2 for p in segmentation):
        raise DatasetError(
            f"{where}: 'segmentation': found neither RLE nor polygons, expected a dict with 'size' and "
            "'counts' or a list of [x0, y0, x1, y1, x2, y2, ...]; correct it."
        )


def _check_files(records: Sequence[dict], schema: DatasetSchema) -> None:
    labelled = [r for r in records if "sem_seg_file_name" in r]
    edges = [r for r in records if "edge_file_name" in r]
    _in_threads(_check_exists, [(r["file_name"], "file_name") for r in records])
    labels = [(r, "sem_seg_file_name", r["sem_seg_file_name"]) for r in labelled]
    labels += [(r, "edge_file_name", path) for r in edges for path in edge_files(r)]
    _in_threads(_check_label_header, labels)
    _in_threads(_check_complete, [(r["file_name"], "file_name") for r in records])
    _in_threads(_check_complete, [(path, key) for _, key, path in labels])
    _in_threads(_check_image_header, [(r,) for r in _spread(records, HEADER_SAMPLE)])
    _in_threads(_check_label_ids, [(r, schema) for r in _spread(labelled, LABEL_SAMPLE)])


def _in_threads(check: Callable, arguments: Iterable[tuple]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda args: check(*args), arguments):
            pass


def _spread(items: Sequence, count: int) -> list:
    """At most ``count`` items, evenly spaced."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


def _check_exists(path: str, key: str) -> None:
    if not PathManager.isfile(path):
        raise DatasetError(f"'{key}': {path} does not exist; restore the file or remove the image from the dataset.")


def _check_complete(path: str, key: str) -> None:
    reason = truncation(path)
    if reason is not None:
        raise DatasetError(f"'{key}': {path} cannot be read to its end ({reason}); restore the file.")


def _check_label_header(record: dict, key: str, path: str) -> None:
    _check_exists(path, key)
    with PathManager.open(path, "rb") as file:
        header = file.read(29)
    if len(header) < 29 or header[:8] != b"\x89PNG\r\n\x1a\n":
        raise DatasetError(f"'{key}': {path} is no PNG, expected one with an id per pixel; convert it without loss.")
    width, height, depth, color = struct.unpack(">IIBB", header[16:26])
    if color not in (_GREY, _PALETTE) or (color == _GREY and depth != 8):
        raise DatasetError(
            f"'{key}': {path} has PNG colour type {color} and {depth} bits, expected 8-bit grey or a "
            "palette, one id per pixel; convert it."
        )
    _check_size(path, key, (width, height), record)


def _check_image_header(record: dict) -> None:
    path = record["file_name"]
    try:
        height, width = upright_size(path)
    except OSError as error:
        raise DatasetError(f"'file_name': {path} cannot be read as an image ({error}); restore the file.") from error
    _check_size(path, "file_name", (width, height), record)


def _check_size(path: str, key: str, size: tuple[int, int], record: dict) -> None:
    expected = (record["width"], record["height"])
    if size != expected:
        raise DatasetError(
            f"'{key}': {path} is {size[0]}x{size[1]} pixels, expected {expected[0]}x{expected[1]}, the size "
            f"of image {record['image_id']!r} in its record; correct the file or the record."
        )


def _check_label_ids(record: dict, schema: DatasetSchema) -> None:
    path, count = record["sem_seg_file_name"], len(schema.stuff_classes)
    try:
        ids = np.unique(read_semantic_ids(record, open_file=PathManager.open))
    except LabelMapError as error:
        raise DatasetError(f"'sem_seg_file_name': {error}") from error
    except OSError as error:
        raise DatasetError(f"'sem_seg_file_name': {path} cannot be read ({error}); restore the file.") from error
    wrong = [int(i) for i in ids if i >= count and i != schema.ignore_label]
    if wrong:
        raise DatasetError(
            f"'sem_seg_file_name': {path} holds the id {wrong[0]}, expected ids below {count}, the number of "
            f"stuff_classes, or {schema.ignore_label} for void; correct the label or the schema."
        )


def _type_name(kinds: type | tuple[type, ...]) -> str:
    return " or ".join(k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
