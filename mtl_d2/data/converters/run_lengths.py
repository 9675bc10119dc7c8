"""Masks as run lengths in a csv file: "start length start length ...", counted from 1, down the columns."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl_d2.data.converters.files import few
from mtl_d2.data.schema import DatasetError


def read_runs(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The run lengths of each image, a text per mask; an empty text, which stands for no mask, is left out.

    Args:
        path: csv file with the columns ImageId and EncodedPixels.
        names: the ids of the images.

    Raises:
        DatasetError: a column is missing, or an ImageId is not in ``names``.
    """
    runs: dict[str, list[str]] = {}
    with open(path, newline="") as file:
        rows = csv.DictReader(file)
        missing = {"ImageId", "EncodedPixels"}.difference(rows.fieldnames or ())
        if missing:
            raise DatasetError(f"{path}: found no column {few(sorted(missing))}, expected ImageId and EncodedPixels.")
        for row in rows:
            of_image = runs.setdefault(row["ImageId"], [])
            if (row["EncodedPixels"] or "").strip():
                of_image.append(row["EncodedPixels"])
    unknown = sorted(set(runs).difference(names))
    if unknown:
        raise DatasetError(f"{path}: found the ImageId {few(unknown)}, expected names of folders in stage1_train.")
    return runs


def decode_runs(text: str, size: tuple[int, int], image: str) -> np.ndarray:
    """A mask, (H, W) bool.

    Args:
        text: the run lengths.
        size: H and W in pixels.
        image: for messages.

    Raises:
        DatasetError: they are no pairs of numbers, or leave the image.
    """
    height, width = size
    try:
        numbers = np.array(text.split(), np.int64)
        starts, lengths = numbers.reshape(-1, 2).T
    except ValueError as error:
        raise DatasetError(
            f"image {image}: EncodedPixels: found {text[:40]!r}, expected pairs of start and length; correct the row."
        ) from error
    if (starts < 1).any() or (lengths < 1).any() or (starts + lengths - 1 > height * width).any():
        raise DatasetError(
            f"image {image}: EncodedPixels: found {text[:40]!r}, expected runs within 1 to {height * width}, the "
            "image's number of pixels; take image and csv of one release."
        )
    mask = np.zeros(height * width, bool)
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        mask[start - 1 : start - 1 + length] = True
    return mask.reshape(width, height).T
