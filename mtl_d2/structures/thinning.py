"""Thinning of binary maps to one-pixel lines.

Guo and Hall, "Parallel thinning with two-subiteration algorithms", CACM 1989, conditions G1 to G3. The pixels are
those of ``skimage.morphology.thin``; only pixels whose neighbourhood changed are looked at again, which makes it some ten
times faster on edge maps.
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
    """
    if binary.ndim != 2:
        raise ValueError(f"thin takes an (H, W) array, found shape {binary.shape}.")
    height, width = binary.shape
    # A rim of zeros makes every neighbour addressable by a fixed step in the flat array.
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = binary != 0
    _thin_flat(padded.reshape(-1), width + 2)
    return padded[1:-1, 1:-1].astype(bool)


def _thin_flat(pixels: np.ndarray, row: int) -> None:
    steps = np.array([dy * row + dx for dy, dx in _NEIGHBOURS])
    candidates = np.flatnonzero(pixels)
    recent = [candidates, candidates]
    table = 0
    # A pixel's fate in a subiteration depends on its neighbours alone, so it needs another look only if one of
    # them went since it was last asked: in the last two subiterations.
    while recent[0].size or recent[1].size:
        if recent[0] is not candidates:
            candidates = _set_neighbours(pixels, np.concatenate(recent), steps)
        code = np.zeros(candidates.size, np.uint8)
        for bit, step in enumerate(steps):
            code |= pixels[candidates + step] << bit
        removed = candidates[_DELETABLE[table][code]]
        pixels[removed] = 0
        recent = [recent[1], removed]
        table = 1 - table


def _set_neighbours(pixels: np.ndarray, of: np.ndarray, steps: np.ndarray) -> np.ndarray:
    around = (of[:, None] + steps).reshape(-1)
    return np.unique(around[pixels[around] != 0])


def _deletable(rotation: int) -> np.ndarray:
    """(256,) bool by neighbourhood code: may the pixel go? The second subiteration is the first, turned by 180 degrees."""
    code = np.arange(256)
    x = [(code >> ((bit + rotation) % 8)) & 1 for bit in range(8)]
    crossings = sum((1 - x[i]) & (x[i + 1] | x[(i + 2) % 8]) for i in range(0, 8, 2))
    pairs = [sum(x[(i + shift) % 8] | x[(i + shift + 1) % 8] for i in range(0, 8, 2)) for shift in (0, 1)]
    fewer = np.minimum(*pairs)
    on_far_side = (x[1] | x[2] | (1 - x[7])) & x[0]
    return (crossings == 1) & (fewer >= 2) & (fewer <= 3) & (on_far_side == 0)


_DELETABLE = (_deletable(0), _deletable(4))
