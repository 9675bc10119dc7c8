#!/usr/bin/env python
"""Score a folder of edge maps against a folder of ground truth, as the BSDS benchmark does.

ODS, OIS, AP and R50 by true maximum matching within a fraction of the image diagonal, after non-maximum suppression
and thinning; beside them the ODS at half of the tolerance, and the crisp ODS of the maps as they are. Files are matched
by their name without its ending. All scores lie in 0..1.

Edge maps: .png (1, 8 or 16 bits), .npy, .npz or .mat, floats in [0, 1], bright at edges. Ground truth: the same, or
BSDS's .mat, 0 where there is no edge and one other value elsewhere; several annotators as BSDS's .mat, as an array
(A, H, W), or as a folder with a file of each. --gt-kind ids derives edges from maps of object or class ids.

Exit status: 0 where the maps were scored, 2 where they could not be; one sentence names the file.

Examples:

  BSDS:                    python tools/score_edges.py maps/ BSDS500/data/groundTruth/test --json scores.json
  already suppressed:      python tools/score_edges.py maps/ edges/ --no-nms
  from instance id maps:   python tools/score_edges.py maps/ ids/ --gt-kind ids --gt-ignore 255
  black edges on white:    python tools/score_edges.py maps/ edges/ --invert
  a stricter radius:       python tools/score_edges.py maps/ edges/ --max-dist 0.0035
  with the curve:          python tools/score_edges.py maps/ edges/ --pr-curve curve.png
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from tabulate import tabulate

from mtl_d2.engine.record import write_json
from mtl_d2.evaluation import EdgeOptions, EdgeSet
from mtl_d2.evaluation.edge_files import KINDS, GroundTruthForm
from mtl_d2.evaluation.edge_folders import pair_files, score_folders
from mtl_d2.visualization.charts import save
from mtl_d2.visualization.pr_curves import draw_pr_curves

MEANING = {
    "ODS": "best F, one threshold for all images",
    "OIS": "F with each image's own best threshold",
    "AP": "mean precision over recall",
    "R50": "recall at a precision of 0.5",
    "ODS_threshold": "threshold of the ODS",
    "ODS_half": "ODS at half of the tolerance",
    "ODS_crisp": "ODS of the maps as they are",
}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, metavar="PRED_DIR", help="edge maps")
    parser.add_argument("ground_truth", type=Path, metavar="GT_DIR", help="ground truth; every one needs its edge map")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write scores, options, curve and images there")
    parser.add_argument("--pr-curve", type=Path, metavar="FILE", help="draw precision and recall (.png, .pdf, .svg)")
    parser.add_argument("--no-nms", action="store_true", help="the maps are suppressed already")
    parser.add_argument("--no-thin", action="store_true", help="do not thin the binary maps")
    parser.add_argument(
        "--no-extras", action="store_true", help="leave out ODS_half and ODS_crisp: a third of the time"
    )
    defaults = EdgeOptions()
    parser.add_argument(
        "--max-dist",
        type=float,
        default=defaults.max_dist,
        metavar="X",
        help="tolerance, as a fraction of the diagonal, above 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--thresholds", type=int, default=defaults.thresholds, metavar="N", help="evenly spaced (default: %(default)s)"
    )
    parser.add_argument("--invert", action="store_true", help="the edge maps are dark at edges")
    parser.add_argument("--gt-kind", choices=KINDS, default=KINDS[0], help="of the ground truth (default: %(default)s)")
    parser.add_argument(
        "--gt-ignore", type=int, metavar="VALUE", help="value of pixels that are neither right nor wrong"
    )
    parser.add_argument(
        "--gt-thin", action="store_true", help="thin the ground truth: its edges are thicker than a pixel"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="scoring processes (default: one per core; 0 for none)")
    args = parser.parse_args(argv)
    if args.pr_curve is not None and args.pr_curve.suffix.lstrip(".") not in FigureCanvasAgg.get_supported_filetypes():
        parser.error(f"--pr-curve {args.pr_curve}: expected a picture's ending, such as .png, .pdf or .svg")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        scored = score(args)
        report(scored)
        write(scored, args)
    except (ValueError, OSError) as error:
        print(f"score_edges.py: {error}", file=sys.stderr)
        return 2
    return 0


def report(scored: EdgeSet) -> None:
    """Print the figures, and what scores of 0 may come from."""
    rows = [(key, f"{value:.3f}", MEANING[key]) for key, value in scored.metrics().items()]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    for remark in remarks(scored):
        print(f"score_edges.py: {remark}", file=sys.stderr)


def write(scored: EdgeSet, args: argparse.Namespace) -> None:
    """Write the JSON and the picture that are asked for."""
    name = args.predictions.resolve().name
    if args.json is not None:
        write_json(args.json, as_json(scored, name))
    if args.pr_curve is not None:
        curves = {name: {"edge": scored.scores.as_curve(name)}}
        save(draw_pr_curves(curves, args.ground_truth.resolve().name), args.pr_curve)


def score(args: argparse.Namespace) -> EdgeSet:
    """Read and score all pairs of files."""
    extras = not args.no_extras
    options = EdgeOptions(
        max_dist=args.max_dist,
        nms=not args.no_nms,
        thin=not args.no_thin,
        thresholds=args.thresholds,
        half_tolerance=extras,
        crisp=extras,
    )
    form = GroundTruthForm(kind=args.gt_kind, ignore=args.gt_ignore, thin=args.gt_thin)
    pairs, unused = pair_files(args.predictions, args.ground_truth)
    if unused:
        print(
            f"score_edges.py: {len(unused)} edge maps have no ground truth and are left out, {unused[0]} the first.",
            file=sys.stderr,
        )
    return score_folders(pairs, form, options, invert=args.invert, jobs=args.jobs)


def remarks(scored: EdgeSet) -> list[str]:
    """What scores of 0 may come from."""
    result = []
    if scored.without_edges:
        result.append(
            f"{len(scored.without_edges)} of {len(scored.names)} images have no edge in their ground truth, "
            f"{scored.without_edges[0]} the first: what is predicted there counts as wrong."
        )
    if scored.predicts_nothing:
        result.append(
            "no pixel of any map reaches a threshold: a binary PNG has 0 and 255, not 0 and 1; floats lie in [0, 1]."
        )
    return result


def as_json(scored: EdgeSet, name: str) -> dict[str, Any]:
    """What --json writes."""
    return {
        **scored.metrics(),
        "num_images": len(scored.names),
        "options": dataclasses.asdict(scored.options),
        "curve": scored.scores.as_curve(name),
        "images": scored.per_image(),
    }


if __name__ == "__main__":
    sys.exit(main())
