#!/usr/bin/env python3
"""Train on shapes in which one thing class is rare, once for each thing that is done about it, and keep the records.

The set is shapes_rare (`tools/make_shapes.py --rare-share 0.01`): crosses are one training thing in a hundred, in the
validation images one in four. The variants:

  none      nothing
  weights   class weights by the effective number, of the semantic and the region loss
  inverse   as weights, by inverse frequency
  median    as weights, by median frequency
  focal     focal loss for semantics, objectness and regions
  under     common images and pixels left out: images without a cross at a third, 500 pixels a class and image
  over      images with a cross three times as often
  hard      online hard examples: the hardest quarter of the pixels, the hardest regions

A run whose record is complete is not repeated, so that an interrupted table goes on where it stopped.
`tools/write_results.py` makes the table from the records that were kept as
results/imbalance/DATASET_VARIANT_seedS.json.

Examples:
    python tools/make_shapes.py --rare-share 0.01
    python tools/imbalance_table.py --seeds 1 2 3 --processes 2
    python tools/imbalance_table.py --variants none weights --iterations 20 --seeds 1 --output output/imbalance_quick
"""

import argparse
import sys
from pathlib import Path

from train_once import train_once

from mtl_d2.data.datasets.shapes import RARE_SCHEMA

DATASET = "shapes_rare"
SEMANTIC, REGIONS = "MODEL.MTL.SEM_SEG_HEAD", "MODEL.MTL.ROI_BOX_HEAD"


def class_weights(word: str) -> list[str]:
    """The config keys of weights that are counted by this word."""
    return [f"{SEMANTIC}.CLASS_WEIGHTS", word, f"{REGIONS}.CLASS_WEIGHTS", word]


# About 5 % of the training images have a cross, 90 % each of the other classes: sqrt(0.1 / 0.9) is a third, and
# sqrt(0.5 / 0.05) three.
VARIANTS: dict[str, list[str]] = {
    "none": [],
    "weights": class_weights("effective"),
    "inverse": class_weights("inverse"),
    "median": class_weights("median"),
    "focal": [f"{SEMANTIC}.LOSS", "focal", "MODEL.MTL.RPN.OBJECTNESS_LOSS", "focal", f"{REGIONS}.CLS_LOSS", "focal"],
    "under": ["DATALOADER.MTL.UNDERSAMPLE_FREQUENT", "0.1", f"{SEMANTIC}.PIXELS_PER_CLASS", "500"],
    "over": ["DATALOADER.REPEAT_THRESHOLD", "0.5"],
    "hard": [f"{SEMANTIC}.OHEM.FRACTION", "0.25", "MODEL.MTL.ROI_HEADS.OHEM.ENABLED", "True"],
}
DEFAULT = [name for name in VARIANTS if name not in ("inverse", "median")]


def options(variant: str, seed: int, iterations: int | None) -> list[str]:
    """The config keys of one run."""
    length = [] if iterations is None else ["SOLVER.MAX_ITER", str(iterations)]
    return [
        *("DATASETS.TRAIN", f"('{DATASET}_train',)", "DATASETS.TEST", f"('{DATASET}_val',)"),
        *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", str(len(RARE_SCHEMA.stuff_classes))),
        *VARIANTS[variant],
        *length,
        *("SEED", str(seed)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="configs/shapes/demo.yaml", help="of each run (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("output/imbalance"), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a run of each variant a seed (1 2 3)")
    parser.add_argument("--iterations", type=int, help="of each run (default: the config's)")
    parser.add_argument("--processes", type=int, default=1, help="of one training (default: %(default)s)")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=DEFAULT, help=f"default: {' '.join(DEFAULT)}"
    )
    args = parser.parse_args()
    if args.iterations is not None and args.iterations < 1:
        parser.error(f"--iterations {args.iterations}: expected 1 or more")
    failed = []
    for seed in args.seeds:
        for variant in args.variants:
            output = args.output / f"{DATASET}_{variant}_seed{seed}"
            run = options(variant, seed, args.iterations)
            if not train_once(output, run, args.config_file, processes=args.processes):
                failed.append(output / "console.txt")
    if failed:
        print(f"failed, see {', '.join(map(str, failed))}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
