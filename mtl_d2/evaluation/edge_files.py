"""Edge maps and ground truth of other projects, read from files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError

from mtl_d2.structures import edges_from_ids, read_bsds_boundaries, read_label_map, thin
from mtl_d2.structures.edges import EDGE, IGNORE

KINDS = ("edges", "ids")
_FULL = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(bool): 1}


@dataclass(frozen=True, kw_only=True)
class GroundTruthForm:
    """What the files of a ground truth hold.

    Attributes:
        kind: "edges": 0 where there is none, and one other value; "ids": of objects or classes, between which the
            edges lie (``edges_from_ids``, thinned).
        ignore: the value of pixels whose label is unknown; None where all are known.
        thin: whether to thin edges that are drawn thicker than a pixel.
    """

    kind: str = "edges"
    ignore: int | None = None
    thin: bool = False


def read_prediction(path: Path, *, invert: bool = False) -> np.ndarray:
    """Read an edge map: .png, .npy, .npz or .mat with one map. Integers of 8 and 16 bits are divided by their greatest,
    those of a PNG of one bit are 0 and 1.

    Args:
        invert: the file is dark at edges.

    Returns:
        (H, W) floats, not checked to be in [0, 1].

    Raises:
        ValueError: the file cannot be read, has several maps, or is of another type.
        FileNotFoundError: it is missing.
    """
    maps = _read(path)
    if len(maps) != 1:
        raise ValueError(f"{path}: found {len(maps)} maps, expected one edge map in [0, 1].")
    if path.suffix.lower() == ".png" and _has_palette(path):
        raise ValueError(f"{path}: found a palette, whose indices are no values; expected grey values.")
    prob = _without_channel(maps[0])
    if path.suffix.lower() == ".png" and prob.dtype == np.int32:  # 16 bits, as Pillow before 10.3 reads them
        prob = prob.astype(np.uint16)
    if prob.ndim != 2:
        raise ValueError(f"{path}: found an array of the shape {prob.shape}, expected one edge map (H, W).")
    if prob.dtype in _FULL:
        prob = prob.astype(np.float32) / np.float32(_FULL[prob.dtype])
    if not np.issubdtype(prob.dtype, np.floating):
        raise ValueError(f"{path}: found {prob.dtype}, expected floats in [0, 1], or integers of 8 or 16 bits.")
    return 1 - prob if invert else prob


def read_ground_truth(path: Path, form: GroundTruthForm) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Read the edges of every annotator: a .png, .npy, .npz or .mat, or a folder with a file of each.

    Of arrays (A, H, W), of several in an .npz, and of BSDS's .mat each map is an annotator's.

    Returns:
        Of each annotator (H, W) bool, and (H, W) bool of the pixels whose label is unknown, or None.

    Raises:
        ValueError: a file cannot be read, or is no ground truth of that form.
    """
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in READERS) if path.is_dir() else [path]
    maps = [part for file in files for found in _read(file) for part in _annotators(found)]
    if not maps:
        raise ValueError(f"{path}: found no annotator's edges, expected one map or more.")
    shapes = {found.shape for found in maps}
    if len(shapes) > 1 or maps[0].ndim != 2:
        raise ValueError(f"{path}: found maps of the shapes {sorted(shapes)}, expected (H, W) of one size.")
    if form.kind == "ids":
        return _edges_between(maps, path, form.ignore)
    edges = [_edges(found, path, form.ignore) for found in maps]
    unknown = None if form.ignore is None else np.logical_or.reduce([found == form.ignore for found in maps])
    return [thin(edge) for edge in edges] if form.thin else edges, unknown


def _edges(found: np.ndarray, path: Path, ignore: int | None) -> np.ndarray:
    values = np.unique(found)
    values = values[(values != 0) & (values != ignore)]
    if len(values) > 1:
        raise ValueError(
            f"{path}: found the values {', '.join(f'{v:g}' for v in values[:4])}{', ...' if len(values) > 4 else ''} "
            "beside 0, expected one value at edges; say so if it is an id map (--gt-kind ids) or one of them is void "
            "(--gt-ignore)."
        )
    edge = (found != 0) & (found != ignore) if ignore is not None else found != 0
    if edge.mean() > 0.5:
        raise ValueError(
            f"{path}: {100 * edge.mean():.0f} % of the pixels are edges, expected fewer than half; where edges are 0, "
            "invert it."
        )
    return edge


def _edges_between(
    maps: list[np.ndarray], path: Path, ignore: int | None
) -> tuple[list[np.ndarray], np.ndarray | None]:
    labels = []
    for ids in maps:
        if not (np.issubdtype(ids.dtype, np.integer) or ids.dtype == bool):
            raise ValueError(f"{path}: found {ids.dtype}, expected integers: ids of objects or classes.")
        labels.append(edges_from_ids(ids, None if ignore is None else ids == ignore))
    unknown = None if ignore is None else np.logical_or.reduce([label == IGNORE for label in labels])
    return [thin(label == EDGE) for label in labels], unknown


def _annotators(found: np.ndarray) -> list[np.ndarray]:
    found = _without_channel(found)
    return list(found) if found.ndim == 3 else [found]


def _without_channel(found: np.ndarray) -> np.ndarray:
    """(1, H, W) and (H, W, 1) as (H, W)."""
    if found.ndim != 3:
        return found
    return found[0] if found.shape[0] == 1 else found[:, :, 0] if found.shape[2] == 1 else found


def _read(path: Path) -> list[np.ndarray]:
    try:
        return READERS[path.suffix.lower()](path)
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, EOFError, OSError, NotImplementedError, MatReadError) as error:
        reason = " ".join(str(error).split())
        if reason.startswith(str(path)):
            raise ValueError(reason) from error
        raise ValueError(f"{path}: cannot be read as {path.suffix} ({reason}); write it again.") from error


def _read_png(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        one_bit = image.mode == "1"  # whose 1 is full, where a label map's is an id
    found = read_label_map(str(path))
    return [found.astype(bool) if one_bit else found]


def _has_palette(path: Path) -> bool:
    with Image.open(path) as image:
        return image.mode == "P"


def _read_npy(path: Path) -> list[np.ndarray]:
    return [np.load(path, allow_pickle=False)]


def _read_npz(path: Path) -> list[np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return [file[key] for key in file.files]


def _read_mat(path: Path) -> list[np.ndarray]:
    """BSDS's boundaries, else every variable that is a numeric array."""
    if "groundTruth" in [name for name, _, _ in whosmat(path)]:
        return list(read_bsds_boundaries(path))
    variables = [value for name, value in loadmat(path).items() if not name.startswith("__")]
    maps = [v for v in variables if isinstance(v, np.ndarray) and v.dtype.kind in "buif" and v.size > 1]
    if not maps:
        raise ValueError(f"{path}: found no array of numbers, expected a map, or 'groundTruth' as in BSDS.")
    return maps


READERS: dict[str, Callable[[Path], list[np.ndarray]]] = {
    ".png": _read_png,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".mat": _read_mat,
}
