#!/usr/bin/env python3
"""Train every edge head and every edge loss on easy shapes, once for each seed, and tell how well each does.

The variants are the leaves of configs/edges/: head_* are the heads with the default loss, loss_* the losses with the
default head. They train edges alone, on the set that `tools/make_shapes.py --easy` writes; a step takes about a fifth
of a second of one core, beside which the scoring is long in short runs.

A run whose record is complete is not repeated, so that an interrupted table goes on where it stopped.
`tools/write_results.py` makes the table from the records that were kept as results/edge_ablation/VARIANT_seedS.json.

Examples:
    python tools/make_shapes.py --easy
    python tools/edge_ablation.py --seeds 1 2 3
    python tools/edge_ablation.py --variants head_fpn head_light --steps 20 --output output/edge_ablation_quick
"""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate
from train_once import exit_status, train_once

from mtl_d2.engine.edge_ablation_table import HEADER, ablation_rows
from mtl_d2.engine.record import read_record

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "edges"
VARIANTS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith("Base-"))


def options(seed: int, steps: int | None) -> list[str]:
    """The config keys of one run."""
    return [*([] if steps is None else ["SOLVER.MAX_ITER", str(steps)]), "SEED", str(seed)]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/edge_ablation"), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="a run of each variant a seed (default: 1)")
    parser.add_argument("--steps", type=int, help="of each run (default: the config's)")
    parser.add_argument("--processes", type=int, default=1, help="of one training (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="default: all of them")
    args = parser.parse_args()
    for name in ("steps", "processes"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} {value}: expected 1 or more")
    return args


def main() -> int:
    args = parse_args()
    records, failed = {}, []
    for seed in args.seeds:
        for variant in args.variants:
            output = args.output / f"{variant}_seed{seed}"
            config = str(CONFIGS / f"{variant}.yaml")
            if train_once(output, options(seed, args.steps), config, processes=args.processes):
                records[f"edge_ablation/{output.name}"] = read_record(output / "report.json")
            else:
                failed.append(output / "console.txt")
    print(tabulate(ablation_rows(records), headers=HEADER, disable_numparse=True))
    return exit_status(failed)


if __name__ == "__main__":
    sys.exit(main())
