"""The ground truth of BSDS: a MATLAB file with the boundaries of several annotators."""

import zlib
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError


def read_bsds_boundaries(path: str | Path) -> list[np.ndarray]:
    """The boundaries that each annotator drew, ``groundTruth{1,k}.Boundaries``.

    "Contour Detection and Hierarchical Image Segmentation" (Arbelaez et al. 2011).

    Args:
        path: of a MATLAB 5 file (version 7 or older, not 7.3).

    Returns:
        Of each annotator (H, W) bool, all of one size.

    Raises:
        ValueError: the file is of another form, has no annotator, or the annotators' sizes differ.
        FileNotFoundError: it is missing.
    """
    try:
        cells = loadmat(path, variable_names=["groundTruth"])["groundTruth"].reshape(-1)
        edges = [np.asarray(cell["Boundaries"][0, 0]) != 0 for cell in cells]
    except FileNotFoundError:
        raise
    except (LookupError, TypeError, ValueError, NotImplementedError, OSError, MatReadError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: {type(error).__name__} ({reason}), expected a MATLAB 5 file whose 'groundTruth' is a cell array "
            "of structs with 'Boundaries'; download it again."
        ) from error
    sizes = {edge.shape for edge in edges}
    if len(sizes) != 1 or edges[0].ndim != 2:
        raise ValueError(
            f"{path}: found 'Boundaries' of the shapes {sorted(sizes)}, expected those of one annotator or more, all "
            "of the image's size; restore the file."
        )
    return edges
