"""Files of a downloaded dataset, each with one clear sentence where it is not as published."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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


def inside(folder: Path, name: str, where: str) -> Path:
    """``folder / name``, which may not leave the folder: the name comes from a downloaded file.

    Raises:
        DatasetError: it does; ``where`` says in which file and key the name stands.
    """
    root, path = os.path.abspath(folder), os.path.abspath(folder / name)
    if os.path.commonpath([root, path]) != root or path == root:
        raise DatasetError(f"{where}: found {name!r}, expected a file inside {folder}; correct the entry.")
    return folder / name


def few(names: Sequence[Any]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(str(name) for name in names[:4]) + (", ..." if len(names) > 4 else "")
