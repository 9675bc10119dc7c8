"""The command line of a run: that of tools/train_net.py, and of scripts that register tasks or datasets first."""

import argparse
import sys
from collections.abc import Sequence

from detectron2.engine import default_argument_parser
from torch.multiprocessing import ProcessExitedException

from ..balancing import MissingExtraError
from ..data import DatasetError
from ..tasks.patience import UnlabelledTaskError
from . import lazy, run
from .bad_steps import DivergedError
from .config_checks import check_network, check_solver
from .defaults import check_device, check_supported, setup_cfg
from .launch import check_launch, count_processes, launch
from .weights_file import WeightsError, check_there

DESCRIPTION = """
Train or evaluate a network from a config file. OUTPUT_DIR gets checkpoints, config.yaml, log.txt, metrics.json,
TensorBoard events, and report.json (--eval-only: report_eval.json) with the results, the commit and the seconds.
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
        device = _check(args)
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
    except (DatasetError, DivergedError, UnlabelledTaskError, WeightsError) as error:
        sys.exit(f"{program}: {error}")


def _check(args: argparse.Namespace) -> str:
    """Return the device that the config asks for; an error in the command or the config shows before a process starts.

    Raises:
        ValueError: it cannot be run; FileNotFoundError and MissingExtraError for what is not there.
    """
    if args.config_file.endswith(".py"):
        device = lazy.load_config(args).train.device
        _check_launch(args, device)
        check_device(device, "train.device=cpu")
        return device
    cfg = setup_cfg(args.config_file, args.opts or ())
    _check_launch(args, cfg.MODEL.DEVICE)
    check_supported(cfg)
    if args.eval_only:
        check_network(cfg)
    else:
        check_solver(cfg, count_processes(args.num_gpus, args.num_machines))
    if not args.resume:  # which goes on from OUTPUT_DIR
        check_there(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    return cfg.MODEL.DEVICE


def _check_launch(args: argparse.Namespace, device: str) -> None:
    check_launch(args.num_gpus, args.num_machines, args.machine_rank, device, args.dist_url)
