"""Checks of one image and its label files: every pixel is decoded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..faults import Problem
from ..images import READ_ERRORS, BrokenSampleError, read_image
from ..schema import DatasetSchema
from ..validate import label_header_problems, label_id_problems, missing_problems, size_problems

THUMBNAIL = 32  # pixels of each side
_EXIF_ORIENTATION = 274
_THICK = 0.2  # share of edge pixels that lie in full 2x2 blocks


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of an image file: size in pixels as Detectron2 reads it, and a (32, 32) uint8 grey thumbnail."""

    width: int
    height: int
    thumbnail: np.ndarray


def check_image(record: dict) -> tuple[list[Problem], ImageFacts | None]:
    """Decode the image of a record; no facts where that fails."""
    path, key = record["file_name"], "file_name"
    problems = list(missing_problems(path, key))
    if problems:
        return problems, None
    try:
        image = read_image(path, "BGR")
        problems = list(_header_warnings(path))
    except (BrokenSampleError, *READ_ERRORS) as error:
        reason = str(error).removeprefix(f"{path}: ").split("; ", maxsplit=1)[0]
        fix = "restore the file or remove the image from the dataset"
        return [Problem("unreadable", key, f"cannot be read as an image: {reason}", "", fix)], None
    height, width = image.shape[:2]
    problems += size_problems((width, height), record, key)
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    thumbnail = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return problems, ImageFacts(width, height, thumbnail)


def _header_warnings(path: str) -> Iterator[Problem]:
    with PathManager.open(path, "rb") as file, Image.open(file) as image:
        turn, mode = image.getexif().get(_EXIF_ORIENTATION, 1), image.mode
    if turn in range(2, 9):
        fix = "check that the labels were drawn on the turned image, then save it upright without the tag"
        found = f"has the EXIF orientation {turn}, by which it is turned when it is read"
        yield Problem("exif", "file_name", found, "", fix, is_warning=True)
    if mode.startswith("I"):
        found = "has 16 bits a pixel, of which the higher 8 are read"
        fix = "stretch its grey values to 8 bits if it uses only a part of them"
        yield Problem("image_depth", "file_name", found, "", fix, is_warning=True)


def check_semantic(record: dict, schema: DatasetSchema) -> tuple[list[Problem], np.ndarray | None]:
    """Decode the semantic label; with the number of pixels of each id, (256,), where it can be read."""
    key = "sem_seg_file_name"
    problems, label = _decode(record, key)
    if label is None:
        return problems, None
    counts = np.bincount(label.ravel(), minlength=256)
    ids = np.flatnonzero(counts)
    id_map = record.get("sem_seg_id_map")
    if id_map is not None:  # the file's ids are not the run's
        unknown = [int(i) for i in ids if int(i) not in id_map]
        ids, counts = _map_ids(counts, id_map)
        problems += _unknown_ids(unknown, id_map)
    return [*problems, *label_id_problems(ids, schema)], counts


def _map_ids(counts: np.ndarray, id_map: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    mapped = np.zeros_like(counts)
    for found, meant in id_map.items():
        mapped[meant] += counts[found]
    return np.flatnonzero(mapped), mapped


def _unknown_ids(unknown: list[int], id_map: Mapping[int, int]) -> Iterator[Problem]:
    if unknown:
        expected = f"one of the {len(id_map)} ids that the dataset's classes and void have"
        fix = "correct the label or the classes"
        yield Problem("label_ids", "sem_seg_file_name", f"holds the id {unknown[0]}", expected, fix)


def check_edges(record: dict) -> list[Problem]:
    """Decode the edge label of a record."""
    problems, label = _decode(record, "edge_file_name")
    return problems if label is None else [*problems, *_edge_problems(label)]


def _edge_problems(label: np.ndarray) -> Iterator[Problem]:
    key = "edge_file_name"
    values = set(np.unique(label).tolist())
    wrong = sorted(values - {0, 1, 255})
    if wrong:
        yield Problem("edge_values", key, f"holds the value {wrong[0]}", "0, and 255 for an edge", "correct the label")
    elif values >= {1, 255}:
        found = "holds 1 and 255, both of which are edges: a file cannot have a pixel ignored"
        yield Problem("edge_values", key, found, "0, and 255 for an edge", "set what is no edge to 0")
    edge = label != 0
    blocks = edge[1:, 1:] & edge[1:, :-1] & edge[:-1, 1:] & edge[:-1, :-1]
    if blocks.sum() > _THICK * max(1, edge.sum()):
        found = f"has {blocks.sum()} full blocks of 2 x 2 among {edge.sum()} edge pixels"
        yield Problem("edge_thick", key, found, "edges one pixel wide", "thin the edges", is_warning=True)


def _decode(record: dict, key: str) -> tuple[list[Problem], np.ndarray | None]:
    problems = list(label_header_problems(record, key))
    if any(problem.kind in ("missing", "label_png") for problem in problems):
        return problems, None
    try:
        with PathManager.open(record[key], "rb") as file, Image.open(file) as image:
            label, mode = np.asarray(image), image.mode
    except READ_ERRORS as error:
        return [*problems, Problem("unreadable", key, f"cannot be read ({error})", "", "restore the file")], None
    if mode == "P":
        fix = "save it as 8-bit grey: programs that apply the palette read other ids"
        found = "has a palette, whose indices are taken as ids"
        problems.append(Problem("label_palette", key, found, "8-bit grey", fix, is_warning=True))
    if label.ndim != 2 or label.dtype != np.uint8:
        found = f"is read as {label.dtype} of shape {label.shape}"
        return [*problems, Problem("label_png", key, found, "8-bit grey, one id per pixel", "convert it")], None
    return problems, label
