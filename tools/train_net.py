#!/usr/bin/env python
"""Train or evaluate a network from a config file, as Detectron2's tools of the same name do."""

import argparse
import sys

from detectron2.engine import default_argument_parser

import mtl_d2  # noqa: F401 - registers the architectures, heads, tasks and datasets
from mtl_d2.engine import launch, lazy, run, setup_cfg

EXAMPLES = """
Examples:

  on a CPU:        python tools/train_net.py --config-file configs/quick/shapes.yaml
  on 2 GPUs:       python tools/train_net.py --num-gpus 2 --config-file configs/coco/mtl_R_50_FPN_1x.yaml
  with torchrun:   torchrun --nproc-per-node 2 tools/train_net.py --config-file FILE
  2 CPU processes: python tools/train_net.py --num-gpus 2 --config-file FILE MODEL.DEVICE cpu
  go on:           python tools/train_net.py --resume --config-file FILE
  evaluate:        python tools/train_net.py --eval-only --config-file FILE MODEL.WEIGHTS model_final.pth
  change a key:    python tools/train_net.py --config-file FILE SOLVER.BASE_LR 0.001 OUTPUT_DIR output/try
  a LazyConfig:    python tools/train_net.py --config-file configs/shapes/lazy_demo.py train.max_iter=100

OUTPUT_DIR gets checkpoints, config.yaml, log.txt, metrics.json, TensorBoard events, and report.json with the
results, the commit and the seconds.
"""


def main(args: argparse.Namespace) -> None:
    """What every process of the job does."""
    if args.config_file.endswith(".py"):
        lazy.run(args)
    else:
        run.run(args)


def device_of(args: argparse.Namespace) -> str:
    """Return the device that the config asks for; an error in the config shows before any process starts."""
    if args.config_file.endswith(".py"):
        return lazy.load_config(args).train.device
    return setup_cfg(args.config_file, args.opts or ()).MODEL.DEVICE


if __name__ == "__main__":
    parser = default_argument_parser(epilog=EXAMPLES)
    parser.set_defaults(dist_url="auto")
    args = parser.parse_args()
    try:
        device = device_of(args)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{parser.prog}: {error}")
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
        device=device,
    )
