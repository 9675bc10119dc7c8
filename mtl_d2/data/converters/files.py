"""Files of a downloaded dataset, each with one clear sentence where it is not as published."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtl_d2.data.description_keys import is_inside
from mtl_d2.data.images import READ_ERRORS, unreadable
from mtl_d2.data.schema import DatasetError


def require_folder(path: Path, what: str) -> Path:
    """Return ``path``, a folder that has to be there.

    Raises:
        DatasetError: it is not.
    """
    if not path.is_dir():
        raise DatasetError(f"{path}: no such folder, expected {what}; see docs/datasets.md for the layout.")
    return path


def read_json(path: Path, what: str) -> Any:
    """The content of a json file.

    Raises:
        DatasetError: it is missing or broken.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file, expected {what}; see docs/datasets.md for the layout.") from None
    except ValueError as error:
        raise DatasetError(f"{path}: is no json file ({error}); download it again.") from error


def read_pixels(path: Path, what: str) -> np.ndarray:
    """The pixels of a label image as they are stored, palette indices included: (H, W) or (H, W, C).

    Raises:
        DatasetError: there is no such file.
        BrokenSampleError: it is truncated or no image.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file, expected {what}; restore it, or remove the image.")
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except READ_ERRORS as error:
        raise unreadable(str(path), error) from error


def name_inside(folder: Path, name: str, where: str) -> str:
    """The name relative to the folder, without "..", so that it stays inside of any other folder as well.

    Args:
        folder: that the file lies in.
        name: as a downloaded file has it; an absolute one is fine where it leads into the folder.
        where: the file and key of the name, for messages.

    Raises:
        DatasetError: the name leaves the folder.
    """
    path = os.path.join(folder, name)
    if not is_inside(path, str(folder)):
        raise DatasetError(f"{where}: found {name!r}, expected a file inside {folder}; correct the entry.")
    return os.path.relpath(path, folder)


def few(names: Sequence[Any]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(str(name) for name in names[:4]) + (", ..." if len(names) > 4 else "")
