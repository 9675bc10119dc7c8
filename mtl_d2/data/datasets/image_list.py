"""Which images a described dataset has: those of its split, its json or its folder, and how large they are."""

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from tqdm import tqdm

from mtl_d2.data.datasets.coco_json import CocoJson
from mtl_d2.data.description import ALL_IMAGES, Description
from mtl_d2.data.description_keys import is_inside, relative_name
from mtl_d2.data.images import READ_ERRORS, upright_size
from mtl_d2.data.schema import DatasetError

_THREADS = 8  # the work is waiting for a disk
_upright_size = functools.lru_cache(maxsize=1 << 20)(upright_size)  # each evaluator asks for the records


def list_images(description: Description, coco: CocoJson | None) -> list[dict[str, Any]]:
    """Id, file_name (relative to the folder of the images), height and width of each image, and the file it is from.

    Images that the json lists have its ids and sizes; the others have their name as id, and the size of their header.

    Raises:
        DatasetError: the split names an image twice, there is no image, or one that the json does not list cannot be
            read.
    """
    folder = description.images
    listed = {relative_name(image["file_name"], folder): image for image in coco.images} if coco else {}
    if description.split in (None, ALL_IMAGES):
        source = description.instances if coco and description.split is None else folder
        names = list(listed) if coco and description.split is None else list(_image_names(folder))
    else:
        source = description.split
        names = _split_names(source, folder)
    if not names:
        raise DatasetError(f"{description.source}: found no image in {source}, expected one or more; correct the path.")
    unlisted = [name for name in names if name not in listed]
    sizes = dict(zip(unlisted, _sizes(description, unlisted), strict=True))
    images = []
    for name in names:
        image = listed.get(name)
        if image is None:
            image = {"id": name, "file_name": name, "height": sizes[name][0], "width": sizes[name][1]}
        images.append({**image, "file_name": name, "source": source})
    return images


def _split_names(path: str, folder: str) -> list[str]:
    """Names of images relative to their folder, one a line."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [relative_name(line.strip(), folder) for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}), expected a name of an image a line in UTF-8.") from error
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"{path}: found {twice!r} twice, expected each image once; remove one line.")
    return names


def _image_names(folder: str) -> Iterator[str]:
    """Names of the images below a folder, sorted; links are followed, each folder is entered once."""
    endings = tuple(Image.registered_extensions())
    entered = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(parent) in entered:
            folders.clear()
            continue
        entered.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(endings) and not name.startswith("."):  # "._a.jpg" is no image
                yield os.path.relpath(os.path.join(parent, name), folder)


def _sizes(description: Description, names: Sequence[str]) -> list[tuple[int, int]]:
    """Height and width of images by their headers."""

    def size(name: str) -> tuple[int, int]:
        path = os.path.join(description.images, name)
        if not is_inside(path, description.images):
            raise DatasetError(f"{description.split}: found {name!r}, expected a file inside {description.images}.")
        try:
            return _upright_size(path)
        except READ_ERRORS as error:
            reason = "it does not exist" if isinstance(error, FileNotFoundError) else error
            raise DatasetError(
                f"{description.source}: {path} cannot be read as an image ({reason}); restore the file, or remove it "
                "from the dataset."
            ) from error

    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = pool.map(size, names)
        return list(tqdm(sizes, total=len(names), desc="image sizes", unit="image", disable=None, leave=False))
