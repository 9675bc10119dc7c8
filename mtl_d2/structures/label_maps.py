"""Label maps on disk: PNGs with one id per pixel, and which class of the run each id stands for."""

from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
from PIL import Image

OpenFile = Callable[[str, str], IO[bytes]]


class LabelMapError(ValueError):
    """A file is no label map, or holds an id that its record does not know; the message names the file."""


def read_label_map(path: str, *, open_file: OpenFile = open) -> np.ndarray:
    """Read a label map as it is stored: the indices of a palette stay as they are.

    Args:
        path: of the file.
        open_file: ``(path, "rb") -> file``, such as Detectron2's ``PathManager.open``.

    Returns:
        (H, W) uint8, or uint16 where the file has 16 bits.

    Raises:
        LabelMapError: the file has several channels.
        OSError: it is missing or no image.
    """
    with open_file(path, "rb") as file, Image.open(file) as image:
        label = np.array(image)
    if label.ndim != 2:
        raise LabelMapError(f"{path}: found {label.shape[2]} channels, expected a label map of one channel.")
    return label.astype(np.uint8) if label.dtype == bool else label


def read_semantic_ids(record: Mapping[str, Any], *, open_file: OpenFile = open) -> np.ndarray:
    """Read the semantic label of a record, in the ids of the run.

    Everything that needs semantic ids reads them here: training, scores, derived edges and pictures.

    Args:
        record: with ``sem_seg_file_name`` and, where the file's ids are not the run's, ``sem_seg_id_map``
            {id in the file: id of the run, or the ignore label}, which lists every id of the file.
        open_file: see :func:`read_label_map`.

    Returns:
        (H, W), as :func:`read_label_map`.

    Raises:
        LabelMapError: the file has several channels, or an id that the map does not list.
        OSError: it is missing or no image.
    """
    path = record["sem_seg_file_name"]
    label = read_label_map(path, open_file=open_file)
    id_map = record.get("sem_seg_id_map")
    if id_map is None:
        return label
    table = np.full(int(label.max(initial=0)) + 1, -1, np.int16)
    for found, meant in id_map.items():
        if found < len(table):
            table[found] = meant
    ids = table[label]
    if ids.min(initial=0) < 0:
        unknown = int(label[ids < 0][0])
        raise LabelMapError(
            f"{path}: found the id {unknown}, expected one of {sorted(id_map)}, which the dataset names; correct the "
            "file, or name the class."
        )
    return ids.astype(np.uint8)
