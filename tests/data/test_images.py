"""Images of every common kind become the same 8-bit pixels, from a file and from an array."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_d2.data import BrokenSampleError
from mtl_d2.data.images import convert_array, read_image

RGB = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
BGR = np.ascontiguousarray(RGB[..., ::-1])
GRAY = np.ascontiguousarray(RGB[..., 0])
RAMP = np.arange(12 * 17, dtype=np.uint16).reshape(12, 17) * 321  # 0 to 65163


def _three(gray):
    return np.repeat(gray[..., None], 3, axis=2)


def _turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(RGB).save(path, exif=exif)


PALETTE = Image.fromarray(RGB).quantize(8)
CMYK = Image.fromarray(RGB).convert("CMYK")
HIGH_BYTES = _three((RAMP >> 8).astype(np.uint8))
FILES = {  # kind -> suffix, how it is written, what is expected of it in RGB
    "rgb": ("png", Image.fromarray(RGB).save, RGB),
    "gray": ("png", Image.fromarray(GRAY).save, _three(GRAY)),
    "gray, 16 bits": ("png", lambda path: cv2.imwrite(str(path), RAMP), HIGH_BYTES),
    "colour, 16 bits": ("png", lambda path: cv2.imwrite(str(path), BGR.astype(np.uint16) * 256 + 77), RGB),
    "tiff, 16 bits": ("tif", Image.fromarray(RAMP).save, HIGH_BYTES),
    "alpha": ("png", Image.fromarray(np.dstack([RGB, GRAY])).save, RGB),
    "gray with alpha": ("png", Image.merge("LA", [Image.fromarray(GRAY)] * 2).save, _three(GRAY)),
    "palette": ("png", PALETTE.save, np.asarray(PALETTE.convert("RGB"))),
    "one bit": ("png", Image.fromarray(GRAY > 99).save, _three(np.where(GRAY > 99, 255, 0).astype(np.uint8))),
    "cmyk": ("tif", CMYK.save, np.asarray(CMYK.convert("RGB"))),
    "rotated": ("png", _turned, np.rot90(RGB, -1)),
}


def _write(kind, folder):
    suffix, write, expected = FILES[kind]
    path = folder / f"image.{suffix}"
    write(path)
    return path, expected


@pytest.mark.parametrize("kind", FILES)
def test_files_of_every_kind(kind, tmp_path):
    path, expected = _write(kind, tmp_path)
    for image_format, image in (("RGB", expected), ("BGR", expected[..., ::-1])):
        found = read_image(str(path), image_format)
        assert found.dtype == np.uint8 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, image)


def test_gray_format_has_one_channel(tmp_path):
    path, _ = _write("gray, 16 bits", tmp_path)
    np.testing.assert_array_equal(read_image(str(path), "L")[..., 0], (RAMP >> 8).astype(np.uint8))


def test_a_float_image_has_no_known_range(tmp_path):
    Image.fromarray(GRAY.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BrokenSampleError, match=r"a\.tif: cannot be read \(its pixels are float32 from 0\.0 to"):
        read_image(str(tmp_path / "a.tif"), "BGR")


def test_large_images_are_read_where_allowed_and_the_limit_comes_back(tmp_path, monkeypatch):
    path, expected = _write("rgb", tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(BrokenSampleError, match="exceeds limit"):
        read_image(str(path), "RGB")
    np.testing.assert_array_equal(read_image(str(path), "RGB", max_pixels=1000), expected)
    assert Image.MAX_IMAGE_PIXELS == 50


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (BGR, RGB),
        (BGR[::-1, ::2], RGB[::-1, ::2]),
        (np.dstack([BGR, GRAY]), RGB),
        (GRAY, _three(GRAY)),
        (GRAY[..., None], _three(GRAY)),
        (RAMP, _three((RAMP >> 8).astype(np.uint8))),
        (BGR.astype(np.uint16) << 8, RGB),
    ],
    ids=["bgr", "view", "bgra", "gray", "one channel", "gray, 16 bits", "bgr, 16 bits"],
)
def test_arrays_are_bgr(array, expected):
    np.testing.assert_array_equal(convert_array(array, "RGB"), expected)
    found = convert_array(array, "BGR")
    assert found.flags.c_contiguous and found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected[..., ::-1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3)), "dtype float64, expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\)"),
        ([[1, 2]], "type list"),
    ],
)
def test_what_is_no_image_is_named(array, message):
    with pytest.raises(ValueError, match=message):
        convert_array(array, "BGR")
