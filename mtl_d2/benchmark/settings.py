"""What the benchmarks of networks share on the command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode

from mtl_d2.engine.defaults import check_device, setup_cfg

CPU_SIZE, GPU_SIZE, QUICK_SIZE = (320, 480), (800, 1216), (64, 96)
QUICK = (
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 50),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", 100, "MODEL.RPN.POST_NMS_TOPK_TEST", 50),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 32),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", 1, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "MODEL.MTL.EDGE_HEAD.CONVS_DIM", 32),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """On what, and how often, networks are compared.

    Attributes:
        size: height and width of the images, in pixels.
        batch_sizes: images per batch; each is measured on its own.
        bf16: time under bfloat16 autocast; equality is always asserted in float32.
        rounds: counted rounds.
        quick: the smallest network that has all parts, to try the command.
        opts: KEY VALUE ..., merged last.
    """

    config_file: str
    device: str
    size: tuple[int, int]
    batch_sizes: tuple[int, ...]
    bf16: bool
    rounds: int
    seed: int
    quick: bool
    opts: tuple[str, ...]

    @property
    def on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    def cfg(self, overrides: Sequence[object] = ()) -> CfgNode:
        """The config of the networks, with KEY VALUE ... merged before those of the command line.

        Raises:
            FileNotFoundError, ValueError: see :func:`mtl_d2.engine.setup_cfg`.
        """
        quick = QUICK if self.quick else ()
        return setup_cfg(self.config_file, ["MODEL.DEVICE", self.device, *quick, *overrides, *self.opts])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`read_settings` reads."""
    parser.add_argument(
        "--config-file",
        default="configs/Base-MultiTaskFPN.yaml",
        metavar="FILE",
        help="of the joint network; its weights are random (default: %(default)s)",
    )
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="default: 320 480; on a GPU 800 1216")
    parser.add_argument("--batch-sizes", type=int, nargs="+", metavar="N", help="default: 2; on a GPU 2 8")
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="time under bfloat16 autocast (default: on a GPU)",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="counted rounds (default: 12; with --quick 2)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, images and samples (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tiny network on 64x96 pixels: the figures mean nothing")
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="changes of the config, for all the networks; after -- if --batch-sizes stands before",
    )


def read_settings(args: argparse.Namespace) -> Settings:
    """The settings, with the defaults of the device.

    Raises:
        ValueError: a number out of range, or no such device here.
    """
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device, "--device cpu")
    on_gpu = torch.device(device).type == "cuda"
    size = args.size or (QUICK_SIZE if args.quick else GPU_SIZE if on_gpu else CPU_SIZE)
    batch_sizes = args.batch_sizes or ([2, 8] if on_gpu else [2])
    for option, values, least in (("--size", size, 32), ("--batch-sizes", batch_sizes, 1)):
        if min(values) < least:
            raise ValueError(f"{option} {' '.join(map(str, values))}: expected {least} or more")
    rounds = (2 if args.quick else 12) if args.rounds is None else args.rounds
    if rounds < 2:
        raise ValueError(f"--rounds {rounds}: expected 2 or more, there is no interval otherwise")
    return Settings(
        config_file=args.config_file,
        device=device,
        size=(size[0], size[1]),
        batch_sizes=tuple(batch_sizes),
        bf16=on_gpu if args.bf16 is None else args.bf16,
        rounds=rounds,
        seed=args.seed,
        quick=args.quick,
        opts=tuple(args.opts),
    )
