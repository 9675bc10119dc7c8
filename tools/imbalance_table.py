#!/usr/bin/env python3
"""Train on shapes in which one thing class is rare, once for each thing that is done about it, and keep the records.

The set is that of the config with a rare class (`tools/make_shapes.py --rare-share 0.01`), such as shapes_rare for
shapes: crosses are one training thing in a hundred, in the validation images one in four. The variants:

  none      nothing
  weights   class weights by the effective number, of the semantic and the region loss
  inverse   as weights, by inverse frequency
  median    as weights, by median frequency
  focal     focal loss for semantics, objectness and regions
  under     common images and pixels left out: at most 500 pixels a class and image, and of the images whose rarest
            class is in a share f of them sqrt(0.1 / f): on shapes_rare a third of those without a cross
  over      images with a cross sqrt(0.5 / f) times: on shapes_rare three times
  hard      online hard examples: the hardest quarter of the pixels, the hardest regions

A run whose record is complete is not repeated, so that an interrupted table goes on where it stopped.
`tools/write_results.py` makes the table from the records that were kept as
results/imbalance/DATASET_VARIANT_seedS.json.

Examples:
    python tools/make_shapes.py --easy --rare-share 0.01
    python tools/imbalance_table.py --config-file configs/shapes/small.yaml --seeds 1 2 3
    python tools/imbalance_table.py --variants none weights --iterations 20 --seeds 1 --output output/imbalance_quick
"""

import argparse
import sys
from pathlib import Path

from train_once import exit_status, train_once

from mtl_d2.data.datasets.shapes import FAMILIES, RARE_SCHEMA
from mtl_d2.engine import setup_cfg

SEMANTIC, REGIONS = "MODEL.MTL.SEM_SEG_HEAD", "MODEL.MTL.ROI_BOX_HEAD"


def class_weights(word: str) -> list[str]:
    """The config keys of weights that are counted by this word."""
    return [f"{SEMANTIC}.CLASS_WEIGHTS", word, f"{REGIONS}.CLASS_WEIGHTS", word]


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


def rare_set(config: str) -> str:
    """The set with a rare class that belongs to the config's.

    Raises:
        ValueError: there is none.
    """
    name = setup_cfg(config).DATASETS.TRAIN[0].removesuffix("_train")
    rare = [family for family in FAMILIES if family.endswith("_rare")]
    if f"{name}_rare" not in rare:
        raise ValueError(
            f"--config-file {config}: found DATASETS.TRAIN {name}_train, expected that of a set with a rare class, "
            f"{' or '.join(family.removesuffix('_rare') for family in rare)}"
        )
    return f"{name}_rare"


def options(dataset: str, variant: str, seed: int, iterations: int | None) -> list[str]:
    """The config keys of one run."""
    length = [] if iterations is None else ["SOLVER.MAX_ITER", str(iterations)]
    return [
        *("DATASETS.TRAIN", f"('{dataset}_train',)", "DATASETS.TEST", f"('{dataset}_val',)"),
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
    try:
        dataset = rare_set(args.config_file)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    failed = []
    for seed in args.seeds:
        for variant in args.variants:
            output = args.output / f"{dataset}_{variant}_seed{seed}"
            run = options(dataset, variant, seed, args.iterations)
            if not train_once(output, run, args.config_file, processes=args.processes):
                failed.append(output / "console.txt")
    return exit_status(failed)


if __name__ == "__main__":
    sys.exit(main())
