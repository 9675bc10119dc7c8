"""2018 Data Science Bowl, stage 1 (BBBC038): nuclei under the microscope.

"Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl" (Caicedo et al. 2019). Layout:

    stage1_train/<id>/images/<id>.png      RGBA; alpha is left aside when images are read
    stage1_train/<id>/masks/*.png          one PNG per nucleus
    stage1_train_labels.csv                where there are no masks: ImageId, EncodedPixels (a row per nucleus)

Made of it: instances of one class, semantics (background, nucleus), edges derived from the instances. Where masks
overlap, the smaller lies on top. The set has no validation split: a seed draws one, or a list names it.
"""

import argparse
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mtl_d2.data.converters.annotations import annotations_from_ids
from mtl_d2.data.converters.files import few, read_pixels, require_folder
from mtl_d2.data.converters.run_lengths import decode_runs, read_runs
from mtl_d2.data.converters.split import Item, Labels, Split
from mtl_d2.data.images import READ_ERRORS, unreadable, upright_size
from mtl_d2.data.schema import DatasetError
from mtl_d2.structures.box_masks import crop_mask

SUMMARY = "2018 Data Science Bowl, nuclei"
SPLITS = ("train", "val")
CLASSES = ("background", "nucleus")
_MAX_DETS = 400  # up to 375 nuclei in an image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How the validation images are chosen."""
    parser.add_argument(
        "--val-fraction", type=float, default=0.15, metavar="F", help="of the images, for val (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which ones these are (default %(default)s)")
    parser.add_argument("--val-list", type=Path, metavar="FILE", help="instead: their ids, one a line")


def find_splits(
    source: Path,
    splits: Sequence[str],
    *,
    val_fraction: float = 0.15,
    seed: int = 0,
    val_list: Path | None = None,
) -> list[Split]:
    """The splits of the images below ``source``/stage1_train.

    Args:
        source: folder that holds stage1_train, and stage1_train_labels.csv where there are no masks.
        splits: of "train" and "val".
        val_fraction: of the images for val, in (0, 1).
        seed: of the draw.
        val_list: file with the ids of the images for val, one a line; no draw then.

    Raises:
        DatasetError: a folder is missing, or an option or the list does not fit the images.
    """
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown:
        raise DatasetError(f"--splits: found {unknown[0]}, expected train, val or both: the set has no others.")
    images = require_folder(source / "stage1_train", "the images, a folder each")
    names = sorted(path.name for path in images.iterdir() if path.is_dir())
    val = _listed(val_list, names) if val_list is not None else _drawn(names, val_fraction, seed)
    csv = source / "stage1_train_labels.csv"
    runs = read_runs(csv, names) if csv.is_file() else None
    items = {name: _item(number, name, images, runs) for number, name in enumerate(names, start=1)}
    of_split = {"train": [n for n in names if n not in val], "val": [n for n in names if n in val]}
    make = functools.partial(
        Split,
        images=str(images),
        read=read_labels,
        things={1: "nucleus"},
        classes=CLASSES,
        stuff=CLASSES[:1],
        edge_source="instance",
        max_dets=_MAX_DETS,
    )
    return [make(split, items=[items[name] for name in of_split[split]]) for split in splits]


def _drawn(names: Sequence[str], fraction: float, seed: int) -> set[str]:
    if not 0 < fraction < 1:
        raise DatasetError(f"--val-fraction: found {fraction}, expected a number above 0 and below 1.")
    if seed < 0:
        raise DatasetError(f"--seed: found {seed}, expected 0 or more.")
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[i] for i in order[: round(fraction * len(names))].tolist()}


def _listed(path: Path, names: Sequence[str]) -> set[str]:
    if not path.is_file():
        raise DatasetError(f"--val-list: {path} does not exist, expected a file of ids, one a line.")
    listed = set(path.read_text().split())
    unknown = sorted(listed.difference(names))
    if unknown:
        raise DatasetError(
            f"{path}: found {few(unknown)}, expected names of folders in stage1_train; correct the list."
        )
    return listed


def _item(number: int, name: str, images: Path, runs: Mapping[str, list[str]] | None) -> Item:
    masks = images / name / "masks"
    found = masks if masks.is_dir() else (runs or {}).get(name)
    image = f"{name}/images/{name}.png"
    return Item(number, image, (images / image, found))


def read_labels(item: Item) -> Labels:
    """Labels of an image; ``item.source`` is its file, and its folder of masks, or its run lengths, or None.

    A mask without a pixel, or hidden by smaller ones, is left out.

    Raises:
        DatasetError: there are no masks, or one is not of the image's size.
        BrokenSampleError: an image or a mask cannot be read.
    """
    path, found = item.source
    try:
        size = upright_size(str(path))
    except READ_ERRORS as error:
        raise unreadable(str(path), error) from error
    if found is None:
        raise DatasetError(
            f"{path.parents[1]}: found no folder masks, and no row of the image in stage1_train_labels.csv, expected "
            "one of them; restore it, or remove the image."
        )
    frames = _read_masks(found, size) if isinstance(found, Path) else (decode_runs(r, size, path.stem) for r in found)
    masks = [crop_mask(frame) for frame in frames]  # hundreds of full frames would fill the memory
    ids = np.zeros(size, np.int32)
    for i in sorted(range(len(masks)), key=lambda i: -masks[i].area):
        ids[masks[i].window][masks[i].pixels] = i + 1
    objects = dict.fromkeys(range(1, len(masks) + 1), (1, False))
    return Labels(size, annotations_from_ids(ids, objects), (ids > 0).astype(np.uint8))


def _read_masks(folder: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    for path in sorted(folder.glob("*.png")):
        pixels = read_pixels(path, "a mask")
        mask = pixels != 0 if pixels.ndim == 2 else (pixels[:, :, :3] != 0).any(axis=2)
        if mask.shape != size:
            raise DatasetError(
                f"{path}: found {mask.shape[1]} x {mask.shape[0]} pixels (width x height), expected {size[1]} x "
                f"{size[0]}, the size of its image; restore the file."
            )
        yield mask
