"""Thinning of binary maps to one-pixel lines.

Guo and Hall, "Parallel thinning with two-subiteration algorithms", CACM 1989, conditions G1 to G3. The pixels
are those of ``skimage.morphology.thin``; only set pixels are looked at, and after the first pass only those
whose neighbourhood changed, which is several times faster on edge maps.
"""

import numpy as np

# Neighbours E, NE, N, NW, W, SW, S, SE of a pixel: bit i of the neighbourhood code.
_NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def thin(binary: np.ndarray) -> np.ndarray:
    """Thin a binary map until nothing changes.

    Args:
        binary: (H, W), nonzero where set.

    Returns:
        (H, W) bool, a subset of ``binary`` with the same 8-connected components.

    Raises:
        ValueError: ``binary`` is no matrix.
    """
    if binary.ndim != 2:
        raise ValueError(f"thin takes an (H, W) array, found shape {binary.shape}.")
    thinned = np.zeros(binary.shape, bool)
    thinned.reshape(-1)[PixelThinner(binary.shape)(np.flatnonzero(binary))] = True
    return thinned


class PixelThinner:
    """``thin`` for many sparse maps of one size, each given as the flat positions of its set pixels."""

    def __init__(self, shape: tuple[int, int]):
        # A rim of zeros makes every neighbour addressable by a fixed step in the flat array.
        self._width = shape[1]
        self._row = shape[1] + 2
        self._pixels = np.zeros((shape[0] + 2) * self._row, np.uint8)
        self._steps = np.array([dy * self._row + dx for dy, dx in _NEIGHBOURS])

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """(n,) distinct flat positions in, those that stay out, in the same order."""
        rows, columns = np.divmod(positions, max(self._width, 1))
        padded = (rows + 1) * self._row + columns + 1
        self._pixels[padded] = 1
        self._thin(padded)
        stay = self._pixels[padded] != 0
        self._pixels[padded] = 0
        return positions[stay]

    def _thin(self, positions: np.ndarray) -> None:
        before_last, last = self._remove(positions, 0), self._remove(positions, 1)
        subiteration = 0
        # A pixel's fate in a subiteration depends on its neighbours alone, so it needs another look only if
        # one of them went since that subiteration was last run, which is in the last two steps.
        while before_last.size or last.size:
            changed = self._set_neighbours(np.concatenate([before_last, last]))
            before_last, last = last, self._remove(changed, subiteration)
            subiteration = 1 - subiteration

    def _remove(self, positions: np.ndarray, subiteration: int) -> np.ndarray:
        code = np.zeros(positions.size, np.uint8)
        for bit, step in enumerate(self._steps):
            code |= self._pixels[positions + step] << bit
        removed = positions[_DELETABLE[subiteration][code] & (self._pixels[positions] != 0)]
        self._pixels[removed] = 0
        return removed

    def _set_neighbours(self, positions: np.ndarray) -> np.ndarray:
        around = (positions[:, None] + self._steps).reshape(-1)
        return np.unique(around[self._pixels[around] != 0])


def _deletable(rotation: int) -> np.ndarray:
    """(256,) bool by neighbourhood code: may the pixel go? The second subiteration is a half turn."""
    code = np.arange(256)
    x = [(code >> ((bit + rotation) % 8)) & 1 for bit in range(8)]
    crossings = sum((1 - x[i]) & (x[i + 1] | x[(i + 2) % 8]) for i in range(0, 8, 2))
    pairs = [sum(x[(i + shift) % 8] | x[(i + shift + 1) % 8] for i in range(0, 8, 2)) for shift in (0, 1)]
    fewer = np.minimum(*pairs)
    on_far_side = (x[1] | x[2] | (1 - x[7])) & x[0]
    return (crossings == 1) & (fewer >= 2) & (fewer <= 3) & (on_far_side == 0)


_DELETABLE = (_deletable(0), _deletable(4))
