#!/usr/bin/env python3
"""Train Mask R-CNN on shapes with each pair of box loss and classification loss, and keep the run records.

Box losses (of the RPN and the box head): smooth-L1, IoU, GIoU. Classification losses (objectness and class):
cross-entropy, focal. A run whose record exists is not repeated, so that an interrupted table goes on where it stopped;
`tools/write_results.py` makes the table from the records.

Examples:
    python tools/loss_table.py
    python tools/loss_table.py --seeds 1 --iterations 20 --output output/loss_table_quick
"""

import argparse
import subprocess
import sys
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOX_LOSSES = ("smooth_l1", "iou", "giou")
CLASS_LOSSES = ("ce", "focal")


def overrides(box_loss: str, class_loss: str) -> list[str]:
    """The config keys of one cell of the table."""
    return [
        *("MODEL.RPN.BBOX_REG_LOSS_TYPE", box_loss, "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", box_loss),
        *("MODEL.MTL.RPN.OBJECTNESS_LOSS", class_loss, "MODEL.MTL.ROI_BOX_HEAD.CLS_LOSS", class_loss),
    ]


def run(output: Path, options: list[str], config: str) -> bool:
    """Train unless the record is there; whether a complete record is there afterwards."""
    if (output / "report.json").is_file():
        print(f"{output}: kept", flush=True)
        return True
    print(f"{output}: training", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", config, "OUTPUT_DIR", str(output)]
    with open(output / "console.txt", "w") as console:
        return subprocess.run(command + options, check=False, stdout=console, stderr=subprocess.STDOUT).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="configs/shapes/mask_rcnn.yaml", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("output/loss_table"), help="default: %(default)s")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2], help="one run of each pair a seed (default: 1 2)"
    )
    parser.add_argument("--iterations", type=int, default=220, help="of each run (default: %(default)s)")
    args = parser.parse_args()
    failed = []
    for seed, box_loss, class_loss in product(args.seeds, BOX_LOSSES, CLASS_LOSSES):
        output = args.output / f"{box_loss}_{class_loss}_seed{seed}"
        options = [*overrides(box_loss, class_loss), "SOLVER.MAX_ITER", str(args.iterations), "SEED", str(seed)]
        if not run(output, options, args.config_file):
            failed.append(str(output / "console.txt"))
    if failed:
        print(f"failed, see {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
