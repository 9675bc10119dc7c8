"""Edge labels as the mapper makes them against their definition in plain numpy.

The objects are ellipses within their boxes, as the mapper has them after augmentation, on a semantic map of eight by
eight squares, one of them void. The definition paints an id map of int32 with whole frames, and compares each pixel
with each neighbour that its kind of edge asks for. Both have to give the same label before they are timed, in CPU
seconds of this process; best is the fastest round, which other work on the machine disturbs least.

  at the size of a Cityscapes image:  python tools/benchmark.py edge_label --size 1024 2048
"""

import argparse
from collections.abc import Callable

import cv2
import numpy as np

from mtl_d2.data.edge_label import EdgeLabel
from mtl_d2.data.targets import derive_edges
from mtl_d2.structures.box_masks import BoxMask, crop_mask, draw_masks
from mtl_d2.structures.edge_kinds import EDGE_KINDS
from mtl_d2.structures.edges import EDGE, IGNORE, id_map
from mtl_d2.structures.neighbourhood import disc, square

from .equality import Check, relative_difference
from .report import Comparison, Findings, compare
from .timing import measure

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "edge labels against their definition"
OURS, DEFINITION = "mapper", "definition"
VOID = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`run` reads."""
    parser.add_argument(
        "--size", type=int, nargs=2, default=[1024, 1024], metavar=("H", "W"), help="pixels (default: 1024 1024)"
    )
    parser.add_argument("--objects", type=int, default=30, metavar="N", help="default: %(default)s")
    parser.add_argument("--radius", type=int, default=2, metavar="PIXELS", help="of wide edges (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="counted rounds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the scene (default: %(default)s)")


def run(args: argparse.Namespace) -> Findings:
    """Check equality of each kind, from objects and from objects and classes, then time them.

    Raises:
        ValueError: wrong options.
    """
    for option, value in (("--size", min(args.size)), ("--objects", args.objects), ("--radius", args.radius)):
        if value < 1:
            raise ValueError(f"{option} {value}: expected 1 or more")
    size = (args.size[0], args.size[1])
    masks, sem_seg = make_scene(size, args.objects, args.seed)
    checks: list[Check] = []
    pairs: dict[str, dict[str, Callable[[], np.ndarray]]] = {}
    for source, semantics in (("instance", None), ("union", sem_seg)):
        for kind in EDGE_KINDS:
            runs = build_runs(masks, semantics, size, EdgeLabel(kind=kind, radius=args.radius))
            labels = [run() for run in runs.values()]
            checks.append(Check(name=f"{kind}, {source}", difference=relative_difference(*labels), tolerance=0.0))
            pairs[f"{kind}, {source}"] = runs
    comparisons: list[Comparison] = []
    if all(check.equal for check in checks):
        for name, runs in pairs.items():
            seconds = measure(runs, rounds=args.rounds, device="cpu", title=name)
            best = 1000 * min(seconds[OURS])
            comparisons.append(compare(f"{name} (best {best:.2f} ms)", seconds, images=1))
    setting = {"size": f"{size[0]}x{size[1]}", "objects": str(args.objects), "radius": f"{args.radius} pixels"}
    return Findings(
        device="cpu", rounds=args.rounds, seed=args.seed, setting=setting, checks=checks, comparisons=comparisons
    )


def make_scene(size: tuple[int, int], objects: int, seed: int) -> tuple[list[BoxMask], np.ndarray]:
    """Masks within their boxes, and a semantic map of (H, W) uint8."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(objects):
        frame = np.zeros(size, np.uint8)
        center, axes = rng.integers(0, size[::-1]).tolist(), rng.integers(1, max(2, min(size) // 7), 2).tolist()
        cv2.ellipse(frame, center, axes, int(rng.integers(180)), 0, 360, 1, -1)
        masks.append(crop_mask(frame.astype(bool)))
    squares = rng.integers(0, 8, (8, 8)).astype(np.uint8)
    squares[0, 0] = VOID
    return masks, cv2.resize(squares, size[::-1], interpolation=cv2.INTER_NEAREST)


def build_runs(
    masks: list[BoxMask], sem_seg: np.ndarray | None, size: tuple[int, int], options: EdgeLabel
) -> dict[str, Callable[[], np.ndarray]]:
    """Both ways to the same label."""
    frames = draw_masks(masks, size)
    return {
        OURS: lambda: derive_edges(masks, [], sem_seg, size, ignore_value=VOID, options=options),
        DEFINITION: lambda: edges_by_definition(frames, sem_seg, size, options),
    }


def edges_by_definition(
    frames: np.ndarray, sem_seg: np.ndarray | None, size: tuple[int, int], options: EdgeLabel
) -> np.ndarray:
    """The label, comparison by comparison: (H, W) uint8 in {0, 1, 255}.

    Args:
        frames: (N, H, W) bool.
    """
    ids = id_map(frames, sem_seg, size=size)
    unknown = np.zeros(size, bool) if sem_seg is None else (sem_seg == VOID) & ~frames.any(axis=0)
    if options.kind == "radius":
        return _compare(ids, unknown, disc(options.radius))
    one_sided = np.array([[0, 0, 0], [0, 1, 1], [0, 1, 0]])
    thin = _compare(ids, unknown, one_sided)
    if options.kind == "thin":
        return thin
    kernel = square(options.radius)
    edges, unsure = (_any_under(thin == value, kernel) for value in (EDGE, IGNORE))
    return np.where(thin == IGNORE, IGNORE, np.where(edges, EDGE, np.where(unsure, IGNORE, 0))).astype(np.uint8)


def _compare(ids: np.ndarray, unknown: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    edges, unsure = np.zeros(ids.shape, bool), unknown.copy()
    for here, there in _pairs(ids.shape, kernel):
        known = ~unknown[here] & ~unknown[there]
        edges[here] |= known & (ids[here] != ids[there])
        unsure[here] |= ~known
    return np.where(edges, EDGE, np.where(unsure, IGNORE, 0)).astype(np.uint8)


def _any_under(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    result = np.zeros(mask.shape, bool)
    for here, there in _pairs(mask.shape, kernel):
        result[here] |= mask[there]
    return result


def _pairs(shape: tuple[int, ...], kernel: np.ndarray) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """For each pixel of the kernel the windows of all pixels that have such a neighbour, and of these neighbours."""
    pairs = []
    for offset in np.argwhere(kernel) - len(kernel) // 2:
        here = tuple(slice(max(0, -d), max(0, n - max(0, d))) for d, n in zip(offset, shape, strict=True))
        there = tuple(slice(max(0, d), max(0, n + min(0, d))) for d, n in zip(offset, shape, strict=True))
        pairs.append((here, there))
    return pairs
