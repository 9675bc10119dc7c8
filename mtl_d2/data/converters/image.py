"""One image's labels, from the published files to those that mtl_d2 reads."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mtl_d2.data.converters.journal import Entry
from mtl_d2.data.converters.split import Item, Labels
from mtl_d2.data.images import READ_ERRORS, unreadable, upright_size
from mtl_d2.data.schema import DatasetError


def convert_image(
    item: Item, *, read: Callable[[Item], Labels], images: Path, output: Path, split: str, copy: bool
) -> Entry:
    """Read an image's labels, check them against the image, and write its PNGs.

    Args:
        item: the image.
        read: its labels.
        images: folder of the images.
        output: the folder that is written.
        split: name of the split, for the folders below ``output``.
        copy: copy the image as well.

    Returns:
        "image": the entry of COCO's json; "annotations": None where it is not labelled for instances.

    Raises:
        DatasetError: a file is missing, or the sizes of image and labels differ.
        BrokenSampleError: a file cannot be read.
    """
    path = images / item.file_name
    if not path.is_file():
        raise DatasetError(f"{path}: no such file, expected an image; restore it.")
    labels = read(item)
    _check_size(path, labels.size)
    stem = os.path.splitext(item.file_name)[0]
    if labels.sem_seg is not None:
        _write_png(output / "semantic" / split / f"{stem}.png", labels.sem_seg)
    for number, edge in enumerate(labels.edges or ()):
        _write_png(output / "edges" / split / stem / f"{number}.png", (edge != 0).astype(np.uint8) * 255)
    if copy:
        target = output / "images" / split / item.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    height, width = labels.size
    image = {"id": item.image_id, "file_name": item.file_name, "height": height, "width": width}
    return {"image": image, "annotations": labels.annotations}


def _check_size(path: Path, expected: tuple[int, int]) -> None:
    try:
        height, width = upright_size(str(path))
    except READ_ERRORS as error:
        raise unreadable(str(path), error) from error
    if (height, width) != tuple(expected):
        raise DatasetError(
            f"{path}: found {width} x {height} pixels (width x height), expected {expected[1]} x {expected[0]}, "
            "the size of its labels; restore the image or the labels."
        )


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"{path}: cannot be written; check free space and permissions.")
