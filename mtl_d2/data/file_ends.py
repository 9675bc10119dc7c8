"""Whether an image file is whole: a download or copy that broke off has a good header."""

import os

from detectron2.utils.file_io import PathManager
from PIL import Image

from .images import READ_ERRORS

_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}  # first two bytes -> last ones, of JPEG and PNG
_TAIL = 32


def truncation(path: str) -> str | None:
    """Why a JPEG or PNG cannot be read to its end; None where it can, and for other formats.

    Of a file that ends as its format says, only a few bytes are read. Others (some cameras append data) are decoded.

    Raises:
        OSError: the file is missing.
    """
    with PathManager.open(path, "rb") as file:
        end = _ENDS.get(file.read(2))
        size = file.seek(0, os.SEEK_END)
        if not size:
            return "it is empty"
        file.seek(-min(_TAIL, size), os.SEEK_END)
        if end is None or file.read().rstrip(b"\0\r\n ").endswith(end):
            return None
        file.seek(0)
        try:
            with Image.open(file) as image:
                image.load()
        except READ_ERRORS as error:
            return str(error) or type(error).__name__
    return None
