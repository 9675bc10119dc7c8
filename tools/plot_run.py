#!/usr/bin/env python
"""Draw how runs went, from what they left in their output folders.

    python tools/plot_run.py output/demo
    python tools/plot_run.py output/shapes_joint output/shapes_edge --output output/compared
    python tools/plot_run.py output/demo output/demo/sobel --output demo.png

writes curves.png (from metrics.json: losses, weights of the tasks, learning rate and scores over the iterations) and,
for each dataset that was evaluated, pr_DATASET.png (precision and recall of boxes, masks and edges, from
inference/DATASET/*_pr.json). Several runs are laid over each other. What a run does not have is left out.
"""

import argparse
import logging
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg

from mtl_d2.visualization.charts import run_names, save
from mtl_d2.visualization.metrics_file import read_metrics
from mtl_d2.visualization.pr_curves import Curves, draw_pr_curves, find_curves
from mtl_d2.visualization.run_curves import SCORES, Metrics, draw_run_curves


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="OUTPUT_DIR", help="output folders of runs")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE_OR_DIR",
        help="a folder, or a picture (.png, .pdf, .svg), beside which the others go as NAME_pr_DATASET "
        "(default: plots/ in the first OUTPUT_DIR)",
    )
    scores = " ".join(SCORES)
    parser.add_argument("--scores", nargs="+", default=SCORES, metavar="KEY", help=f"scalars (default: {scores})")
    args = parser.parse_args()
    missing = [str(path) for path in args.runs if not path.is_dir()]
    if missing:
        parser.error(f"{', '.join(missing)}: no such folder; give the OUTPUT_DIR of runs")
    return args


def read_runs(folders: list[Path]) -> tuple[dict[str, Metrics], dict[str, dict[str, Curves]]]:
    """Scalars by run, and curves by dataset and run; each with all runs, so that a run has one colour everywhere.

    Raises:
        ValueError: a run has neither, or a file cannot be used.
    """
    runs = run_names(folders)
    metrics: dict[str, Metrics] = dict.fromkeys(runs, {})
    curves: dict[str, dict[str, Curves]] = {}
    for name, folder in runs.items():
        of_run = find_curves(folder)
        for dataset, found in of_run.items():
            curves.setdefault(dataset, dict.fromkeys(runs, {}))[name] = found
        # A folder that holds an evaluation alone has no scalars.
        if not of_run or (folder / "metrics.json").exists():
            metrics[name] = read_metrics(folder / "metrics.json")
    return metrics, curves


def picture_path(output: Path, name: str) -> Path:
    """Where the picture ``name`` goes: into a folder, or beside the picture that --output names."""
    if output.suffix.lower().lstrip(".") not in FigureCanvasAgg.get_supported_filetypes():
        return output / f"{name}.png"
    return output if name == "curves" else output.with_name(f"{output.stem}_{name}{output.suffix}")


def main() -> int:
    logging.basicConfig(format="%(message)s")
    args = parse_args()
    output = args.output or args.runs[0] / "plots"
    try:
        metrics, curves = read_runs(args.runs)
        figures = {"curves": draw_run_curves(metrics, args.scores)} if any(metrics.values()) else {}
        figures.update((f"pr_{dataset}", draw_pr_curves(found, dataset)) for dataset, found in curves.items())
        for name, figure in figures.items():
            path = picture_path(output, name)
            save(figure, path)
            print(f"Wrote {path}")
    except OSError as error:
        print(f"plot_run.py: {error.filename}: cannot be read or written ({error.strerror})", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"plot_run.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
