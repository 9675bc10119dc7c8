"""Edge maps and ground truth that cannot be scored, each named in one sentence."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

_MARGIN = 0.05  # how much darker than the rest an inverted map is near edges, at least
_NEAR = 2  # pixels: maps of lines may be off by one or two


def check_prob(prob: np.ndarray, shape: tuple[int, ...], name: str = "the image") -> None:
    """Check an edge map.

    Args:
        prob: expected to be (H, W) floats in [0, 1].
        shape: (H, W) of the ground truth.
        name: of the image, for errors.

    Raises:
        ValueError: it has another shape or type, or values that are not within [0, 1].
    """
    if prob.shape != tuple(shape):
        raise ValueError(
            f"The edge map of {name} must have its ground truth's size (height, width), {tuple(shape)}, found "
            f"{prob.shape}: resize the map."
        )
    if not np.issubdtype(prob.dtype, np.floating):
        raise ValueError(
            f"The edge map of {name} must be of floats in [0, 1], found {prob.dtype}: divide 8-bit values by 255."
        )
    if prob.size and not (prob.min() >= 0 and prob.max() <= 1):
        raise ValueError(f"The edge map of {name} must be within [0, 1], found {_what_it_is(prob)}.")


def _what_it_is(prob: np.ndarray) -> str:
    if np.isnan(prob).any():
        return f"NaN at {np.isnan(prob).sum()} of {prob.size} pixels: look where they come from"
    low, high = float(prob.min()), float(prob.max())
    found = f"{low:g} to {high:g}"
    # Beyond 1 a logit is rarely above 30, and one map of logits has both signs.
    if low >= 0 and 30 < high <= 255:
        return f"{found}, which looks like 0 to 255: divide by 255"
    return f"{found}: pass probabilities, not logits"


def check_polarity(prob: np.ndarray, gts: Sequence[np.ndarray], name: str = "the image") -> None:
    """Check that edges are bright, by a rule of our own.

    A map is taken to be inverted where more than half of it is above 0.5, and the pixels within two of a true edge are
    darker than the rest by 0.05 in the mean.

    Args:
        prob: (H, W) in [0, 1].
        gts: (H, W) of each annotator, nonzero at edges.

    Raises:
        ValueError: the map looks inverted.
    """
    if prob.size == 0 or np.median(prob) <= 0.5:
        return
    edge = np.logical_or.reduce([gt != 0 for gt in gts])
    near = ndimage.binary_dilation(edge, np.ones((3, 3)), iterations=_NEAR)
    if not near.any() or near.all():
        return
    at_edges, elsewhere = float(prob[near].mean()), float(prob[~near].mean())
    if at_edges < elsewhere - _MARGIN:
        raise ValueError(
            f"The edge map of {name} looks inverted, its mean is {at_edges:.2f} near true edges and {elsewhere:.2f} "
            "elsewhere, expected bright edges on a dark ground: pass 1 - map (--invert)."
        )


def check_ground_truth(gts: np.ndarray | Sequence[np.ndarray], name: str = "the image") -> list[np.ndarray]:
    """The maps of the annotators, as a list.

    Args:
        gts: one (H, W) array, or one of each annotator (a list, or (A, H, W)).

    Raises:
        ValueError: there is no annotator, a map is no matrix or has NaN, or their sizes differ.
    """
    maps = [gts] if isinstance(gts, np.ndarray) and gts.ndim == 2 else [np.asarray(gt) for gt in gts]
    if not maps:
        raise ValueError(
            f"The ground truth of {name} has no annotator, expected one map or more: add it, or leave the image out."
        )
    shapes = {gt.shape for gt in maps}
    if len(shapes) > 1 or maps[0].ndim != 2:
        raise ValueError(
            f"The ground truth of {name} must be (H, W) maps of one size, found the shapes {sorted(shapes)}."
        )
    if any(np.issubdtype(gt.dtype, np.floating) and np.isnan(gt).any() for gt in maps):
        raise ValueError(f"The ground truth of {name} must be nonzero at edges and 0 elsewhere, found NaN.")
    return maps


def check_ignore(ignore: np.ndarray | None, shape: tuple[int, ...], name: str = "the image") -> None:
    """Check the mask of pixels whose label is unknown.

    Raises:
        ValueError: it is not (H, W) booleans of the size of the map.
    """
    if ignore is not None and (ignore.shape != tuple(shape) or ignore.dtype != bool):
        raise ValueError(
            f"The ignored pixels of {name} must be booleans of the shape {tuple(shape)}, found {ignore.dtype} "
            f"{ignore.shape}."
        )
