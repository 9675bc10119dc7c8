"""BSDS500: edges from several annotators of each image.

"Contour Detection and Hierarchical Image Segmentation" (Arbelaez et al. 2011). Layout, in BSR/BSDS500/data:

    images/<split>/<id>.jpg
    groundTruth/<split>/<id>.mat       MATLAB 5; a cell of each annotator with Segmentation and Boundaries

Made of it: a PNG of each annotator's boundaries, one pixel wide. The segmentations have no classes: neither
instances nor semantics can be made of them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtl_d2.data.converters.files import require_folder
from mtl_d2.data.converters.split import Item, Labels, Split
from mtl_d2.data.schema import DatasetError
from mtl_d2.structures import read_bsds_boundaries

SUMMARY = "BSDS500, edges from several annotators"
SPLITS = ("train", "val", "test")
_DATA = ("", "data", "BSDS500/data", "BSR/BSDS500/data")  # how deep the folder lies below what was unpacked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


def find_splits(source: Path, splits: Sequence[str]) -> list[Split]:
    """The splits below ``source``: BSR, or a folder in it, down to the one of images/ and groundTruth/.

    Raises:
        DatasetError: a folder is missing.
    """
    data = next((source / part for part in _DATA if (source / part / "groundTruth").is_dir()), source)
    result = []
    for name in splits:
        images = require_folder(data / "images" / name, "the images of a split")
        labels = require_folder(data / "groundTruth" / name, "the .mat files of a split")
        paths = sorted(images.glob("*.jpg"))
        items = [Item(i, path.name, str(labels / f"{path.stem}.mat")) for i, path in enumerate(paths, start=1)]
        result.append(Split(name, str(images), items, read_labels, things={}))
    return result


def read_labels(item: Item) -> Labels:
    """The boundaries of each annotator; ``item.source`` is the .mat file.

    Raises:
        DatasetError: the file is missing or of another form, or the annotators' sizes differ.
    """
    path = item.source
    if not Path(path).is_file():
        raise DatasetError(f"{path}: no such file, expected the ground truth of {item.file_name}; restore it.")
    try:
        edges = read_bsds_boundaries(path)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    return Labels(edges[0].shape, edges=edges)
