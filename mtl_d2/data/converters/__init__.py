"""Published datasets in the form that mtl_d2 reads, one file per format."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mtl_d2.data.converters import bsds500, cityscapes, coco_panoptic, dsb2018
from mtl_d2.data.converters.split import Item, Labels, Split
from mtl_d2.data.converters.write import write_splits

FORMATS: dict[str, ModuleType] = {  # each with SUMMARY, SPLITS, add_arguments and find_splits
    "coco_panoptic": coco_panoptic,
    "cityscapes": cityscapes,
    "bsds500": bsds500,
    "dsb2018": dsb2018,
}


def convert_dataset(
    form: str,
    source: Path,
    output: Path,
    *,
    splits: Sequence[str] | None = None,
    jobs: int = 1,
    copy: bool = False,
    **options: Any,
) -> dict[str, int]:
    """Convert a dataset in its published layout.

    Args:
        form: one of FORMATS.
        source: folder of the dataset.
        output: folder to make; what other commands wrote there is never overwritten.
        splits: which; None takes the usual ones of the format.
        jobs: processes.
        copy: copy the images instead of referring to where they are.
        options: of the format's ``find_splits``.

    Returns:
        The number of images by split, of those that were converted now.

    Raises:
        DatasetError: the input is not as published, or ``output`` holds something else.
    """
    module = FORMATS[form]
    found = module.find_splits(source, list(dict.fromkeys(splits or module.SPLITS)), **options)
    recipe = {"format": form, "source": str(source.absolute())}
    recipe.update((key, str(value)) for key, value in options.items() if value is not None)
    return write_splits(found, output, recipe, jobs=jobs, copy=copy)


__all__ = ["FORMATS", "Item", "Labels", "Split", "convert_dataset", "write_splits"]
