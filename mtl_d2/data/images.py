"""Images of any common kind as 8-bit pixels: files and arrays, gray, with alpha, of 16 bits, rotated by EXIF."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from detectron2.data import detection_utils as utils
from detectron2.utils.file_io import PathManager
from PIL import Image

# What Pillow raises on a missing, truncated or oversized file.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_EXIF_ORIENTATION, _TURNED = 274, (5, 6, 7, 8)


class BrokenSampleError(ValueError):
    """An image or its label cannot be used; the message names the file."""


def read_image(path: str, image_format: str, *, max_pixels: int = 0) -> np.ndarray:
    """Read what Pillow reads: gray, palette, CMYK, with alpha (dropped), turned upright as its EXIF says.

    The 16 bits of a gray image become 8 by their higher byte, as Pillow does with those of a colour image (and
    not with gray ones, which it would clip to white). Of several frames the first is read.

    Args:
        path: a file, or what Detectron2's PathManager resolves.
        image_format: "BGR", "RGB", or another of Detectron2's ``read_image``.
        max_pixels: read images of so many pixels, where that is above Pillow's limit; not for files of unknown
            origin: a small file may unpack to many pixels.

    Returns:
        (H, W, C) uint8, contiguous; C is 3 for "BGR" and "RGB".

    Raises:
        BrokenSampleError: the file is missing, truncated, no image, or of more than 16 bits per channel.
    """
    try:
        with _pixels_allowed(max_pixels):
            with PathManager.open(path, "rb") as file:
                mode = Image.open(file).mode
            if mode[0] not in "IF":
                return _contiguous(utils.read_image(path, format=image_format), image_format)
            gray = to_eight_bits(_integers(utils.read_image(path, format=None)))
    except READ_ERRORS as error:
        raise unreadable(path, error) from error
    return _contiguous(utils.convert_PIL_to_numpy(Image.fromarray(gray), image_format), image_format)


def upright_size(path: str) -> tuple[int, int]:
    """Height and width in pixels as :func:`read_image` gives them; no pixel is read.

    Raises:
        OSError: the file is missing or no image.
    """
    with PathManager.open(path, "rb") as file, Image.open(file) as image:
        width, height = image.size
        if image.getexif().get(_EXIF_ORIENTATION) in _TURNED:
            return width, height
    return height, width


@contextmanager
def _pixels_allowed(count: int) -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None:
        Image.MAX_IMAGE_PIXELS = max(limit, count)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def convert_array(array: Any, image_format: str) -> np.ndarray:
    """An image in memory, in the channel order of OpenCV, as a network reads it.

    Args:
        array: (H, W), (H, W, 1) gray, (H, W, 3) BGR or (H, W, 4) BGRA (alpha is dropped), uint8 or uint16 (of
            which the higher byte is taken).
        image_format: see :func:`read_image`.

    Returns:
        (H, W, C) uint8, contiguous.

    Raises:
        ValueError: of another shape or dtype, or without a pixel.
    """
    if not isinstance(array, np.ndarray):
        raise ValueError(f"found an image of type {type(array).__name__}, expected a path or a numpy array (BGR).")
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"found an image of dtype {array.dtype}, expected uint8 (0..255) or uint16 (0..65535).")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(
            f"found an image of shape {array.shape}, expected (H, W), (H, W, 3) in BGR or (H, W, 4), H and W above 0."
        )
    image = to_eight_bits(array)
    bgr = image[:, :, :3] if channels > 1 else np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image_format == "BGR":
        return np.ascontiguousarray(bgr)
    rgb = np.ascontiguousarray(bgr[:, :, ::-1])
    return rgb if image_format == "RGB" else utils.convert_PIL_to_numpy(Image.fromarray(rgb), image_format)


def to_eight_bits(array: np.ndarray) -> np.ndarray:
    """uint8 stays as it is; of uint16 the higher byte is taken."""
    return array if array.dtype == np.uint8 else (array >> 8).astype(np.uint8)


def contiguous(array: np.ndarray) -> np.ndarray:
    """The same pixels, (H, W) or (H, W, C), in an array that steps forward: flipped views are slow to copy.

    Detectron2's flips return views that step backwards.
    """
    vertical, horizontal = (stride < 0 for stride in array.strides[:2])
    if not vertical and not horizontal:
        return array
    forward = array[:: -1 if vertical else 1, :: -1 if horizontal else 1]
    flipped = cv2.flip(forward, -1 if vertical and horizontal else int(horizontal))
    return flipped.reshape(array.shape)  # OpenCV drops a single channel


def to_planes(image: np.ndarray) -> np.ndarray:
    """(H, W, C) as a new contiguous array (C, H, W)."""
    height, width, channels = image.shape
    planes = np.empty((channels, height, width), image.dtype)
    cv2.split(image, list(planes))  # into the planes; a transposed copy is slower
    return planes


def unreadable(path: str, error: Exception) -> BrokenSampleError:
    """What to say of a file that one of :data:`READ_ERRORS` ended the reading of."""
    reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
    return BrokenSampleError(f"{path}: cannot be read ({reason}); replace or remove it.")


def _integers(array: np.ndarray) -> np.ndarray:
    """Pixels of Pillow's modes I and I;16 as uint16."""
    if array.dtype.kind == "f" or array.min() < 0 or array.max() > 0xFFFF:
        raise ValueError(f"its pixels are {array.dtype} from {array.min()} to {array.max()}, expected 8 or 16 bits")
    return array.astype(np.uint16)


def _contiguous(image: np.ndarray, image_format: str) -> np.ndarray:
    if image_format == "BGR":
        # Detectron2's BGR is a view of RGB with a negative stride, from which resizing is slow.
        return cv2.cvtColor(image[:, :, ::-1], cv2.COLOR_RGB2BGR)
    return np.ascontiguousarray(image)
