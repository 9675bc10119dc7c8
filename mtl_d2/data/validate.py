"""Checks of records: labels that fit the schema, files that exist and agree with the record."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from mtl_d2.data.annotation_geometry import annotation_problems
from mtl_d2.data.faults import Fault, Problem
from mtl_d2.data.file_ends import truncation
from mtl_d2.data.images import READ_ERRORS, upright_size
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
    for fault in record_faults(records, schema):
        raise DatasetError(f"{where}, {fault}")
    if check_files:
        for fault in _file_faults(records, schema):
            raise DatasetError(str(fault))


def record_faults(records: Sequence[dict], schema: DatasetSchema) -> Iterator[Fault]:
    """All that is wrong with the records themselves; no file is opened."""
    seen: set = set()
    for index, record in enumerate(records):
        name = str(record.get("file_name", f"number {index}"))
        item = f"image {name!r}"
        incomplete = list(image_problems(record))
        for problem in (*incomplete, *label_key_problems(record, schema)):
            yield Fault.at(problem, name, item)
        if incomplete:  # annotations are checked against the image's size
            continue
        size = record["height"], record["width"]
        for number, annotation in enumerate(record.get("annotations", ())):
            for problem in annotation_problems(annotation, size, len(schema.thing_classes)):
                yield Fault.at(problem, name, f"{item}, annotation {number}")
        if record["image_id"] in seen:
            found = f"{record['image_id']!r} twice"
            yield Fault(name, item, "image_id_twice", "image_id", found, "unique ids", "renumber the images")
        seen.add(record["image_id"])


def image_problems(record: dict) -> Iterator[Problem]:
    """Keys that every record has, missing or of another type."""
    for key, kinds in (("file_name", str), ("height", int), ("width", int), ("image_id", (int, str))):
        value = record.get(key)
        if not isinstance(value, kinds) or isinstance(value, bool):
            yield Problem("image_key", key, repr(value), _type_name(kinds), "add it")
        elif key in ("height", "width") and value <= 0:  # type: ignore[operator]
            yield Problem("image_key", key, str(value), "a positive number of pixels", "correct it")


def label_key_problems(record: dict, schema: DatasetSchema) -> Iterator[Problem]:
    """Label keys that contradict the schema or each other."""
    if "sem_seg_file_name" in record and not schema.stuff_classes:
        found = "a semantic label, but the schema has no stuff_classes"
        yield Problem("no_stuff_classes", "sem_seg_file_name", found, "", "name the semantic classes there")
    yield from _image_label_problems(record, schema)
    source = record.get("edge_source", "none")
    if "edge_file_name" in record and not edge_files(record):
        found, expected = "an empty list", "a file, or one of each annotator"
        yield Problem("no_edge_file", "edge_file_name", found, expected, "leave it out for an image without edge label")
    if source not in EDGE_SOURCES:
        known = ", ".join(map(repr, EDGE_SOURCES))
        yield Problem("edge_source", "edge_source", repr(source), f"one of {known}", "correct it")
    for kind, key in (("instance", "annotations"), ("semantic", "sem_seg_file_name")):
        if source in (kind, "union") and key not in record:
            found, expected = f"{source!r} without '{key}'", f"{kind} labels to derive edges from"
            yield Problem("edge_source", "edge_source", found, expected, "leave edge_source out for this image")


def _image_label_problems(record: dict, schema: DatasetSchema) -> Iterator[Problem]:
    if "image_labels" not in record:
        return
    key, found, count = "image_labels", record["image_labels"], len(schema.image_label_classes)
    if count == 0:
        expected, fix = "names in the schema's image_label_classes", "name the classes of the images there"
        yield Problem("no_image_label_classes", key, "labels of the image", expected, fix)
    elif not isinstance(found, list | tuple) or not all(
        isinstance(i, int) and not isinstance(i, bool) and 0 <= i < count for i in found
    ):
        expected = f"a list of ids in [0, {count}), the indices of image_label_classes"
        yield Problem("image_labels", key, repr(found), expected, "correct it; [] is an image of no class")


def _file_faults(records: Sequence[dict], schema: DatasetSchema) -> Iterator[Fault]:
    labelled = [r for r in records if "sem_seg_file_name" in r]
    drawn = [r for r in records if "edge_file_name" in r]
    edges = [{**r, "edge_file_name": path} for r in drawn for path in edge_files(r)]  # one of each annotator
    yield from _in_threads(lambda r: missing_problems(r["file_name"], "file_name"), records, "file_name")
    for key, group in (("sem_seg_file_name", labelled), ("edge_file_name", edges)):
        yield from _in_threads(partial(label_header_problems, key=key), group, key)
    for key, group in (("file_name", [*records]), ("sem_seg_file_name", labelled), ("edge_file_name", edges)):
        yield from _in_threads(partial(_truncation_problems, key=key), group, key)
    yield from _in_threads(image_header_problems, _spread(records, HEADER_SAMPLE), "file_name")
    ids = _spread(labelled, LABEL_SAMPLE)
    yield from _in_threads(lambda r: _label_file_problems(r, schema), ids, "sem_seg_file_name")


def _in_threads(check: Callable[[dict], Iterable[Problem]], records: Sequence[dict], key: str) -> Iterator[Fault]:
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda record: (record, list(check(record))), records)
        for record, problems in tqdm(found, f"Checking {key}", len(records), unit="file", disable=None, leave=False):
            for problem in problems:
                yield Fault.at(problem, record[key])


def _spread(items: Sequence, count: int) -> list:
    """At most ``count`` items, evenly spaced."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


def missing_problems(path: str, key: str) -> Iterator[Problem]:
    """A file that is not there."""
    if not PathManager.isfile(path):
        yield Problem("missing", key, "does not exist", "", "restore the file or remove the image from the dataset")


def label_header_problems(record: dict, key: str) -> Iterator[Problem]:
    """A label that is no PNG of one id per pixel, or has another size than the record says."""
    path = record[key]
    missing = list(missing_problems(path, key))
    if missing:
        yield from missing
        return
    with PathManager.open(path, "rb") as file:
        header = file.read(29)
    if len(header) < 29 or header[:8] != b"\x89PNG\r\n\x1a\n":
        yield Problem("label_png", key, "is no PNG", "one with an id per pixel", "convert it without loss")
        return
    width, height, depth, color = struct.unpack(">IIBB", header[16:26])
    if color not in (_GREY, _PALETTE) or (color == _GREY and depth != 8):
        found = f"has PNG colour type {color} and {depth} bits"
        yield Problem("label_png", key, found, "8-bit grey or a palette, one id per pixel", "convert it")
    yield from size_problems((width, height), record, key)


def _truncation_problems(record: dict, key: str) -> Iterator[Problem]:
    reason = truncation(record[key])
    if reason is not None:
        yield Problem("unreadable", key, f"cannot be read to its end ({reason})", "", "restore the file")


def image_header_problems(record: dict) -> Iterator[Problem]:
    """An image whose header cannot be read, or says another size than the record."""
    try:
        height, width = upright_size(record["file_name"])
    except READ_ERRORS as error:
        yield Problem("unreadable", "file_name", f"cannot be read as an image ({error})", "", "restore the file")
        return
    yield from size_problems((width, height), record, "file_name")


def size_problems(size: tuple[int, int], record: dict, key: str) -> Iterator[Problem]:
    """A file of another (width, height) than the record says, if it says one."""
    if "height" in record and size != (record["width"], record["height"]):
        of = f"{record['width']}x{record['height']}, the size of image {record.get('image_id')!r} in its record"
        yield Problem("size", key, f"is {size[0]}x{size[1]} pixels", of, "correct the file or the record")


def _label_file_problems(record: dict, schema: DatasetSchema) -> Iterator[Problem]:
    key = "sem_seg_file_name"
    try:
        ids = np.unique(read_semantic_ids(record, open_file=PathManager.open))
    except LabelMapError as error:
        reason, _, fix = str(error).removeprefix(f"{record[key]}: ").rstrip(".").partition("; ")
        yield Problem("label_ids", key, reason, "", fix or "correct the file")
        return
    except READ_ERRORS as error:
        yield Problem("unreadable", key, f"cannot be read ({error})", "", "restore the file")
        return
    yield from label_id_problems(ids, schema)


def label_id_problems(ids: np.ndarray, schema: DatasetSchema) -> Iterator[Problem]:
    """Semantic ids (those that occur, sorted) that no class has."""
    count = len(schema.stuff_classes)
    wrong = [int(i) for i in ids if i >= count and i != schema.ignore_label]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        expected = f"ids below {count}, the number of stuff_classes, or {schema.ignore_label} for void"
        fix = "correct the label or the schema"
        yield Problem("label_ids", "sem_seg_file_name", f"holds the id {wrong[0]}{more}", expected, fix)


def _type_name(kinds: type | tuple[type, ...]) -> str:
    return " or ".join(k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
