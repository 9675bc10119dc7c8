#!/usr/bin/env python3
"""Train Mask R-CNN on shapes with each pair of box loss and classification loss, and keep the run records.

Box losses (of the RPN and the box head): smooth-L1, IoU, GIoU. Classification losses (objectness and class):
cross-entropy, focal. A run whose record is complete is not repeated, so that an interrupted table goes on where it
stopped; `tools/write_results.py` makes the table from the records. On a CPU each of the runs beside each other gets its
share of the cores: a run of one thread needs about two minutes for the default number of iterations.

Examples:
    python tools/loss_table.py --jobs 2
    python tools/loss_table.py --seeds 1 --iterations 20 --output output/loss_table_quick
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from train_once import exit_status, train_once

BOX_LOSSES = ("smooth_l1", "iou", "giou")
CLASS_LOSSES = ("ce", "focal")
SHORT_RUN = ("SOLVER.IMS_PER_BATCH", "4", "SOLVER.BASE_LR", "0.001", "SOLVER.WARMUP_ITERS", "50")


def overrides(box_loss: str, class_loss: str) -> list[str]:
    """The config keys of one cell of the table."""
    return [
        *("MODEL.RPN.BBOX_REG_LOSS_TYPE", box_loss, "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", box_loss),
        *("MODEL.MTL.RPN.OBJECTNESS_LOSS", class_loss, "MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS", class_loss),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="configs/shapes/mask_rcnn.yaml", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("output/loss_table"), help="default: %(default)s")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2], help="one run of each pair a seed (default: 1 2)"
    )
    parser.add_argument("--iterations", type=int, default=300, help="of each run (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs beside each other (default: %(default)s)")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: expected 1 or more")
    threads = max((os.cpu_count() or 1) // args.jobs, 1)

    def run_cell(cell: tuple[int, str, str]) -> Path | None:
        seed, box_loss, class_loss = cell
        output = args.output / f"{box_loss}_{class_loss}_seed{seed}"
        length = ("SOLVER.MAX_ITER", str(args.iterations), "SEED", str(seed))
        options = [*overrides(box_loss, class_loss), *SHORT_RUN, *length]
        return None if train_once(output, options, args.config_file, threads=threads) else output / "console.txt"

    with ThreadPoolExecutor(args.jobs) as pool:
        failed = list(filter(None, pool.map(run_cell, product(args.seeds, BOX_LOSSES, CLASS_LOSSES))))
    return exit_status(failed)


if __name__ == "__main__":
    sys.exit(main())
