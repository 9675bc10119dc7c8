"""Under-sampling of the pixels that the semantic loss is taken over."""

import numpy as np


def limit_pixels(sem_seg: np.ndarray, limit: int, ignore_value: int) -> np.ndarray:
    """Return a semantic map in which each class keeps at most ``limit`` pixels, drawn at random; the rest is ignored.

    Draws from numpy's global generator, as Detectron2's augmentations do.

    Args:
        sem_seg: (H, W) class ids; left as it is.
        limit: pixels of a class in an image, 1 or more.
        ignore_value: void; its pixels stay.
    """
    limited = sem_seg.copy()
    flat = limited.reshape(-1)
    for value in np.unique(sem_seg).tolist():
        pixels = np.flatnonzero(sem_seg == value)
        if value != ignore_value and len(pixels) > limit:
            flat[np.random.permutation(pixels)[limit:]] = ignore_value  # noqa: NPY002
    return limited
