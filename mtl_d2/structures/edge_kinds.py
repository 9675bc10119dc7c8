"""Edge labels that are wider than one pixel, for training. All are (H, W) uint8 in {0, 1, 255}, as in ``edges``."""

import cv2
import numpy as np

from .edges import EDGE, IGNORE, edges_from_ids
from .neighbourhood import differs_nearby, disc, square

EDGE_KINDS = ("thin", "radius", "dilated")


def edges_of_kind(ids: np.ndarray, ignore: np.ndarray | int | None, kind: str, radius: int) -> np.ndarray:
    """The edges of an id map.

    Args:
        ids: (H, W), any integer type.
        ignore: (H, W) bool, pixels of unknown id; or the id that stands for unknown; or None where all are known.
        kind: "thin": ``edges_from_ids``; "radius": ``edges_in_radius``; "dilated": ``dilate_edges`` of the thin ones.
        radius: of the latter two, in pixels, at least 1.
    """
    if kind == "radius":
        return edges_in_radius(ids, ids == ignore if isinstance(ignore, int) else ignore, radius)
    return widen_edges(edges_from_ids(ids, ignore), kind, radius)


def widen_edges(edge: np.ndarray, kind: str, radius: int) -> np.ndarray:
    """The same for drawn edges, where there are no ids: "radius" is a disc around each of their pixels."""
    if kind == "thin":
        return edge
    return dilate_edges(edge, disc(radius) if kind == "radius" else square(radius))


def edges_in_radius(ids: np.ndarray, ignore: np.ndarray | None, radius: int) -> np.ndarray:
    """Pixels that have a pixel of another id at a distance of at most ``radius``: on both sides of a border.

    "CASENet: Deep Category-Aware Semantic Edge Detection" (Yu et al. 2017), its label generation. Of the pixels that
    are no edge those are ignored that have an ignored pixel in the radius: there may be a border.

    Args:
        ids: (H, W), any integer type.
        ignore: (H, W) bool, pixels of unknown id, which are ignored themselves, or None.
        radius: in pixels, at least 1.
    """
    kernel = disc(radius)
    label = differs_nearby(ids, ignore, kernel).view(np.uint8)
    if ignore is not None and ignore.any():
        unsure = cv2.dilate(ignore.astype(np.uint8), kernel)
        label |= (unsure > label) * np.uint8(IGNORE)
    return label


def dilate_edges(edge: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Max-pooling of an edge label: an edge where one lies under the kernel, else ignored where an ignored pixel does.

    What is ignored stays it, also beside an edge.

    Args:
        edge: (H, W) uint8 in {0, 1, 255}.
        kernel: symmetric, uint8 in {0, 1}.
    """
    if not edge.size:
        return edge
    ignored = edge == IGNORE
    label = cv2.dilate((edge == EDGE).view(np.uint8), kernel)
    if not ignored.any():
        return label
    unsure = cv2.dilate(ignored.view(np.uint8), kernel)
    label[ignored] = 0
    label |= (unsure > label) * np.uint8(IGNORE)
    return label
