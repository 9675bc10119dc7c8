#!/usr/bin/env python
"""Score edges from image gradients alone on a dataset: the floor that a trained edge head must beat.

Sobel magnitudes are suppressed to their ridges as any soft map; Canny's edges are thin already.

Examples:
    python tools/edge_floor.py nuclei_val --output output/nuclei/sobel
    python tools/edge_floor.py nuclei_val --detector canny --output output/nuclei/canny

Writes DIR/report.json, a run record, next to the counts and the precision-recall curve. Exit status: 2 for wrong input.
"""

import argparse
import sys
import time
from pathlib import Path

from detectron2.data import DatasetCatalog
from tabulate import tabulate
from tqdm import tqdm

import mtl_d2  # noqa: F401  registers the datasets
from mtl_d2.data import resolve_dataset
from mtl_d2.data.images import read_image
from mtl_d2.engine.record import RunRecord, new_record, write_record
from mtl_d2.engine.results_page import render_main_figures
from mtl_d2.evaluation import EdgeEvaluator, EdgeOptions
from mtl_d2.evaluation.edge_ground_truth import has_edge_label
from mtl_d2.structures import canny_edges, sobel_edges

DETECTORS = {"sobel": sobel_edges, "canny": canny_edges}


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        record = score(args)
    except (ValueError, OSError) as error:
        print(f"edge_floor.py: {error}", file=sys.stderr)
        return 2
    print(render_main_figures(record, tabulate))
    if args.output is not None:
        write_record(args.output / "report.json", record)
    return 0


def score(args: argparse.Namespace) -> RunRecord:
    """Detect and score the edges of all labelled images.

    Raises:
        ValueError: the dataset, one of its images or an option is not as it has to be.
    """
    options = EdgeOptions(max_dist=args.max_dist, nms=args.detector == "sobel")
    dataset = resolve_dataset(args.dataset)
    records = [record for record in DatasetCatalog.get(dataset) if has_edge_label(record)][: args.num_images]
    if not records:
        raise ValueError(f"no image of {dataset} has an edge label: its records need edge_source.")
    evaluator = EdgeEvaluator(dataset, output_dir=args.output, options=options, workers=args.workers)
    start = time.perf_counter()
    for record in tqdm(records, disable=None):
        edge = DETECTORS[args.detector](read_image(record["file_name"], "BGR"), args.sigma)
        evaluator.process([record], [{"edge": edge}])
    results = evaluator.evaluate()
    return new_record(
        results={group: dict(figures) for group, figures in results.items()},
        images={"edge": evaluator.num_images},
        config=f"{args.detector} {dataset}, sigma {args.sigma:g}",
        overrides=[] if args.num_images is None else [f"--num-images {args.num_images}"],
        seed=0,
        iterations=0,
        seconds={"train": 0.0, "eval": time.perf_counter() - start},
        device="cpu",
    )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "dataset",
        help="registered name, e.g. nuclei_val, or the YAML of a dataset; set DETECTRON2_DATASETS to its folder",
    )
    parser.add_argument("--detector", choices=sorted(DETECTORS), default="sobel", help="default: %(default)s")
    parser.add_argument(
        "--sigma",
        type=float,
        default=2.0,
        help="of the Gaussian before it, in pixels; 0 for none (default: %(default)g)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write; without it, print alone")
    parser.add_argument("--num-images", type=int, metavar="N", help="score the first N labelled images alone")
    parser.add_argument(
        "--max-dist",
        type=float,
        default=0.0075,
        help="matching radius / image diagonal (default %(default)s)",
    )
    parser.add_argument("--workers", type=int, help="scoring processes (default: one per core)")
    args = parser.parse_args(argv)
    if args.num_images is not None and args.num_images < 1:
        parser.error(f"--num-images {args.num_images}: expected 1 or more")
    return args


if __name__ == "__main__":
    sys.exit(main())
