"""Text, colours and sizes of the pictures. Images are (H, W, 3), uint8, RGB."""

import colorsys
import functools
import os

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

LONG_SIDE = 512  # pixels of a cell, about: labels are readable on it, and five cells fit on a screen
WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (150, 150, 150)
_GOLDEN_RATIO = 0.618034


def drawing_scale(height: int, width: int) -> float:
    """Factor from image to cell: a whole number for small images, below 1 for large ones."""
    scale = LONG_SIDE / max(height, width)
    return float(round(scale)) if scale >= 2 else scale


def scaled_size(image: np.ndarray, scale: float) -> tuple[int, int]:
    """(width, height) of the cell for an image or a map, as cv2 wants them."""
    height, width = image.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def palette_color(index: int) -> Color:
    """A colour that depends on the index alone; neighbouring indices are far apart in hue."""
    hue = (0.58 + index * _GOLDEN_RATIO) % 1.0
    saturation, value = ((0.75, 0.95), (0.55, 1.0), (0.9, 0.75))[index // 5 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_color(background: Color) -> Color:
    """Black or white, whichever is read better on the background."""
    red, green, blue = background
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib, which Detectron2 needs, brings this font; OpenCV's own has no letters beyond ASCII.
    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size)


@functools.lru_cache(maxsize=1024)
def text_tile(text: str, color: Color, background: Color, size: int = 12) -> np.ndarray:
    """A line of text on a background of its own, 3 pixels wider on each side; do not write to it."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    tile = Image.new("RGB", (int(font.getlength(text)) + 7, ascent + descent + 2), background)
    ImageDraw.Draw(tile).text((3, 1), text, fill=color, font=font)
    return np.asarray(tile)


def paste(canvas: np.ndarray, tile: np.ndarray, left: float, top: float) -> None:
    """Put a tile on the canvas, moved so that it lies inside, cut where it is larger than the canvas."""
    height, width = (min(t, c) for t, c in zip(tile.shape[:2], canvas.shape[:2], strict=True))
    x = int(np.clip(left, 0, canvas.shape[1] - width))
    y = int(np.clip(top, 0, canvas.shape[0] - height))
    canvas[y : y + height, x : x + width] = tile[:height, :width]


def blend(canvas: np.ndarray, mask: np.ndarray, color: Color, alpha: float) -> None:
    """Colour the pixels of a mask; alpha 1 hides what was there."""
    canvas[mask] = (canvas[mask] * (1 - alpha) + np.array(color) * alpha).astype(np.uint8)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at the size of the cell, with smooth outlines."""
    return cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR) > 127
