"""The textures of synthetic scenes, and the smooth noise that some of them and the layout are made of."""

from collections.abc import Callable

import cv2
import numpy as np


def smooth_field(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Normal noise on a coarse grid, interpolated: float (size, size) with about ``cells`` hills a side."""
    grid = rng.normal(size=(cells + 2, cells + 2)).astype(np.float32)
    scale = -(-size // cells)
    field = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return field[scale // 2 : scale // 2 + size, scale // 2 : scale // 2 + size]


def _coordinate(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two perpendicular coordinates in pixels, turned by a random angle, with a random origin."""
    angle = rng.uniform(0, np.pi)
    y, x = np.ogrid[:size, :size]
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return u + rng.uniform(0, 100), v + rng.uniform(0, 100)


# A texture is float (size, size) in [0, 1]: the share of the second of two colours.


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    period = rng.uniform(5, 12)
    return 0.5 + 0.5 * np.clip(2 * np.sin(2 * np.pi * _coordinate(rng, size)[0] / period), -1, 1)


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    u, v = _coordinate(rng, size)
    side = rng.uniform(4, 9)
    return (np.sin(np.pi * u / side) * np.sin(np.pi * v / side) > 0).astype(float)


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.full((size, size), rng.uniform(0, 1))


def _water(rng: np.random.Generator, size: int) -> np.ndarray:
    bend = 14 * smooth_field(rng, size, cells=5)
    return 0.5 + 0.5 * np.sin(2 * np.pi * (_coordinate(rng, size)[0] + bend) / rng.uniform(8, 16))


def _sand(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.clip(0.5 + 0.3 * rng.normal(size=(size, size)), 0, 1)


def _gravel(rng: np.random.Generator, size: int) -> np.ndarray:
    field = smooth_field(rng, size, cells=max(size // int(rng.integers(6, 10)), 1))
    return 1 / (1 + np.exp(-6 * field))


STUFF_TEXTURES: tuple[Callable, ...] = (_water, _sand, _gravel)
THING_TEXTURES: tuple[Callable, ...] = (_stripes, _checks, _sand, _plain)
