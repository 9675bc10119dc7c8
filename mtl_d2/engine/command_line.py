"""The command line of a run: that of tools/train_net.py, and of scripts that register tasks or datasets first."""

import argparse
import sys
from collections.abc import Sequence

from detectron2.engine import default_argument_parser
from torch.multiprocessing import ProcessExitedException

from ..balancing import MissingExtraError, build_balancer
from ..data import DatasetError
from ..data.mixing import check_settings
from ..tasks import known_tasks
from . import lazy, run
from .bad_steps import DivergedError
from .defaults import setup_cfg
from .launch import check_launch, launch
from .weights_file import WeightsError, check_there

DESCRIPTION = """
Train or evaluate a network from a config file. OUTPUT_DIR gets checkpoints, config.yaml, log.txt, metrics.json,
TensorBoard events, and report.json with the results, the commit and the seconds.
"""
EXAMPLES = """
Examples:

  on a CPU:        python {script} --config-file configs/quick/shapes.yaml
  on 2 GPUs:       python {script} --num-gpus 2 --config-file configs/coco/mtl_R_50_FPN_1x.yaml
  with torchrun:   torchrun --nproc-per-node 2 {script} --config-file FILE
  2 CPU processes: python {script} --num-gpus 2 --config-file FILE MODEL.DEVICE cpu
  go on:           python {script} --resume --config-file FILE
  evaluate:        python {script} --eval-only --config-file FILE MODEL.WEIGHTS model_final.pth
  change a key:    python {script} --config-file FILE SOLVER.BASE_LR 0.001 OUTPUT_DIR output/try
  a LazyConfig:    python {script} --config-file configs/shapes/lazy_demo.py train.max_iter=100
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Train or evaluate as a command line says.

    A script of one's own registers its tasks and datasets at its top level, so that every process of the job does,
    and ends with::

        if __name__ == "__main__":
            main()

    Args:
        argv: the words behind the script; None for those of this process.
    """
    parser = default_argument_parser(epilog=EXAMPLES.format(script=sys.argv[0]))
    parser.description = DESCRIPTION
    parser.set_defaults(dist_url="auto")
    args = parser.parse_args(argv)
    try:
        device = _device_of(args)
        check_launch(args.num_gpus, args.num_machines, args.machine_rank, device)
    except (ValueError, FileNotFoundError, MissingExtraError) as error:
        sys.exit(f"{parser.prog}: {error}")
    try:
        launch(
            _run,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args, parser.prog),
            device=device,
        )
    except ProcessExitedException as error:  # it has said why
        sys.exit(error.exit_code)


def _run(args: argparse.Namespace, program: str) -> None:
    """What every process of the job does; what cannot be trained, or no longer, ends it with a sentence."""
    try:
        if args.config_file.endswith(".py"):
            lazy.run(args)
        else:
            run.run(args)
    except (DatasetError, DivergedError, WeightsError) as error:
        sys.exit(f"{program}: {error}")


def _device_of(args: argparse.Namespace) -> str:
    """Return the device that the config asks for; an error in the config shows before any process starts."""
    if args.config_file.endswith(".py"):
        return lazy.load_config(args).train.device
    cfg = setup_cfg(args.config_file, args.opts or ())
    check_settings(cfg)
    run.check_solver(cfg)
    if not args.resume:  # which goes on from OUTPUT_DIR
        check_there(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    build_balancer(cfg, list(cfg.MODEL.MTL.TASKS), known_tasks())
    return cfg.MODEL.DEVICE
