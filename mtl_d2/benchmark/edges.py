"""True maximum matching of edge pixels against the benchmark's own matcher, which pyEdgeEval wraps.

Both match the same thinned binary maps (Sobel magnitudes, suppressed and cut at three thresholds) with the same true
edges within 0.0075 of the diagonal. Ours may not find fewer pairs, and F over all matchings has to be within 0.001 of
the reference's, whose assignment is randomised; then a pass over all of them is timed, in CPU seconds of this process.
pyEdgeEval is compiled when it is installed: pip install --no-deps pyEdgeEval.

  nuclei, with a whole set:   python tools/benchmark.py edges --dataset nuclei_val --whole-set
  without coco_mini:          python tools/benchmark.py edges --dataset shapes_val
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mtl_d2.balancing import MissingExtraError
from mtl_d2.data import get_records
from mtl_d2.data.images import read_image
from mtl_d2.evaluation import EdgeOptions, score_edges
from mtl_d2.evaluation.edge_ground_truth import Record, ground_truth_edges
from mtl_d2.evaluation.edge_matching import match_pixels
from mtl_d2.structures import edge_nms, sobel_edges, thin

from .equality import Check
from .mapper import open_dataset
from .report import Findings, compare
from .timing import measure

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "matching of edge pixels against the benchmark's matcher (needs pyEdgeEval)"
OURS, THEIRS = "true maximum matching", "pyEdgeEval"
MAX_DIST = 0.0075
LEVELS = (0.1, 0.3, 0.5)
TOLERANCE = 1e-3
GOAL = 1 / 12
JOBS = 2

Maps = tuple[np.ndarray, np.ndarray]  # predicted and true pixels, (H, W) bool
Matcher = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`run` reads."""
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="default: coco_mini_train; where it is not there, shapes drawn for the purpose",
    )
    parser.add_argument("--num-images", type=int, default=10, metavar="N", help="evenly spaced (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="counted rounds (default: %(default)s)")
    parser.add_argument(
        "--whole-set",
        action="store_true",
        help=f"time the ODS of all images of --dataset too: 99 thresholds, suppression on, {JOBS} processes",
    )


def run(args: argparse.Namespace) -> Findings:
    """Check that pairs and F agree, then time passes over all matchings.

    Raises:
        MissingExtraError: pyEdgeEval is not installed.
        ValueError: wrong options, or a dataset that cannot be read.
    """
    if args.num_images < 1:
        raise ValueError(f"--num-images {args.num_images}: expected 1 or more")
    if args.whole_set and args.dataset is None:
        raise ValueError("--whole-set: expected --dataset NAME with it, such as nuclei_val")
    matchers = {OURS: match_ours, THEIRS: reference_matcher()}
    with open_dataset(args.dataset, args.num_images) as (name, records, _):
        maps = [pair for record in records for pair in binary_maps(record)]
    if not maps:
        raise ValueError(f"--dataset {args.dataset}: found no image with edges in it and in its Sobel map.")
    checks = check_equality(matchers, maps)
    comparisons = []
    if all(check.equal for check in checks):
        runs = {key: one_pass(matcher, maps) for key, matcher in matchers.items()}
        seconds = measure(runs, rounds=args.rounds, device="cpu", title="matching")
        comparisons.append(compare(f"{len(maps)} matchings, {name}", seconds, images=len(maps), goal=GOAL))
    setting = describe(name, len(records), maps)
    if args.whole_set:
        setting["whole set"] = time_whole_set(args.dataset)
    return Findings(device="cpu", rounds=args.rounds, seed=0, setting=setting, checks=checks, comparisons=comparisons)


def reference_matcher() -> Matcher:
    """The benchmark's matcher: a randomised assignment in C++.

    Raises:
        MissingExtraError: pyEdgeEval is not installed.
    """
    try:
        from pyEdgeEval._lib import correspond_pixels
    except ImportError as error:
        raise MissingExtraError(
            "the reference is pyEdgeEval, which is not installed: pip install --no-deps pyEdgeEval (it needs a "
            f"C++ compiler); found: {error}"
        ) from error

    def match(pred: np.ndarray, gt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_pred, of_true, _, _ = correspond_pixels(pred, gt, max_dist=MAX_DIST)
        return of_pred > 0, of_true > 0

    return match


def match_ours(pred: np.ndarray, gt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A single matching, without what one threshold can take over from the last."""
    return match_pixels(pred, gt, MAX_DIST * float(np.hypot(*pred.shape)))


def binary_maps(record: Record) -> Iterator[Maps]:
    """Thinned Sobel ridges at each level, and the true edges, where both have a pixel."""
    gt = ground_truth_edges(record) == 1
    ridges = edge_nms(sobel_edges(read_image(record["file_name"], "BGR")))
    for level in LEVELS:
        pred = thin(ridges >= level)
        if pred.any() and gt.any():
            yield pred, gt


def check_equality(matchers: dict[str, Matcher], maps: Sequence[Maps]) -> list[Check]:
    """Pairs that ours has fewer of, over all pairs, and the difference of F over all matchings."""
    pairs = {key: np.array([matcher(*pair)[1].sum() for pair in maps]) for key, matcher in matchers.items()}
    pixels = sum(int(pred.sum()) + int(gt.sum()) for pred, gt in maps)
    # With as many pairs on both sides, 2 P R / (P + R) is 2 pairs / (predicted + true pixels).
    f = {key: 2 * int(found.sum()) / pixels for key, found in pairs.items()}
    fewer = np.maximum(pairs[THEIRS] - pairs[OURS], 0).sum() / max(pairs[THEIRS].sum(), 1)
    return [
        Check(name="pairs that ours lacks", difference=float(fewer), tolerance=0.0),
        Check(name="F over all matchings", difference=abs(f[OURS] - f[THEIRS]), tolerance=TOLERANCE),
    ]


def one_pass(matcher: Matcher, maps: Sequence[Maps]) -> Callable[[], None]:
    """What is timed: all matchings."""

    def match_all() -> None:
        for pair in maps:
            matcher(*pair)

    return match_all


def time_whole_set(dataset: str) -> str:
    """Wall seconds for the ODS, OIS and AP of Sobel maps of all images, reading and true edges included."""
    records = get_records([dataset])
    options = EdgeOptions(half_tolerance=False, crisp=False)
    start = time.perf_counter()
    probs = (sobel_edges(read_image(record["file_name"], "BGR")) for record in records)
    scored = score_edges(probs, (ground_truth_edges(r) == 1 for r in records), options=options, jobs=JOBS)
    seconds = time.perf_counter() - start
    return (
        f"{dataset}, {len(records)} images, {options.thresholds} thresholds, suppression on, {JOBS} processes: "
        f"{seconds:.1f} s, ODS {scored.metrics()['ODS']:.3f}"
    )


def describe(name: str, num_images: int, maps: Sequence[Maps]) -> dict[str, Any]:
    """What was matched, in words."""
    pred, true = (np.mean([pair[i].sum() for pair in maps]) for i in (0, 1))
    return {
        "dataset": f"{name}, {num_images} images with objects",
        "maps": f"{len(maps)}, of {pred:.0f} predicted and {true:.0f} true pixels in the mean",
        "tolerance": f"{MAX_DIST} of the diagonal",
    }
