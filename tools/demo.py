#!/usr/bin/env python
"""Show what a trained network says about images and videos of your own.

    python tools/demo.py --config-file configs/shapes/demo.yaml --weights output/demo/model_final.pth \\
        photo.jpg folder/ "more/*.png" clip.mp4 --output output/answers

Inputs are image files, folders, globs, video files, or the index of a camera (such as 0; Ctrl-C ends it well,
and the next input follows; during other inputs it ends the command).
Images of 16 bits, gray ones, and ones with alpha are read too; of 16 bits the higher 8 are used.

DIR gets panels/<name>.png for an image, videos/<name>.mp4 for a video, and raw/ with COCO's instances.json, label
maps, edge maps (255 for a probability of 1) and COCO's panoptic format. An input that fails is named at the end,
with exit status 1; the others' results are kept.

More examples:

    ... satellite.tif --tile 1024 --tile-overlap 256          an image that is larger than memory
    ... images/ --save raw --tasks instance edge              files for other programs
    ... clip.mp4 --confidence 0.7 --tta --device cuda         with augmentation at test time, on a GPU
    ... photo.jpg --opts INPUT.MIN_SIZE_TEST 1200             changes of the config
"""

import argparse
import sys
from pathlib import Path

from mtl_d2 import Predictor
from mtl_d2.engine import setup_cfg
from mtl_d2.predictor.inputs import find_inputs
from mtl_d2.predictor.run import SAVE, predict_inputs


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, glob, or index of a camera")
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--weights", metavar="FILE", help="a checkpoint (default: the config's MODEL.WEIGHTS)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="such as instance sem_seg edge (default: the config's)"
    )
    parser.add_argument("--confidence", type=float, default=0.5, help="least score of what is drawn (default: 0.5)")
    parser.add_argument(
        "--save", choices=SAVE, help="both: panels and raw (default: panels of images, videos of videos)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="frames or tiles at a time (default: 1)")
    parser.add_argument("--tile", type=int, metavar="N", help="cut images into tiles of N x N pixels (default: whole)")
    parser.add_argument(
        "--tile-overlap", type=int, metavar="N", help="of tiles, in pixels (default: a quarter of them)"
    )
    parser.add_argument("--tta", action="store_true", help="average over 3 sizes and mirror images: ten times slower")
    parser.add_argument("--device", help="such as cpu or cuda (default: the config's MODEL.DEVICE)")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="changes of the config")
    return parser.parse_args()


def build(args: argparse.Namespace) -> Predictor:
    return Predictor(
        setup_cfg(args.config_file, args.opts),
        args.weights,
        tasks=args.tasks,
        device=args.device,
        batch_size=args.batch_size,
        tile=args.tile,
        tile_overlap=args.tile_overlap,
        tta=args.tta,
    )


def main() -> int:
    args = parse_args()
    try:
        inputs = find_inputs(args.inputs)
        predictor = build(args)
    except (ValueError, OSError) as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 2
    failures = predict_inputs(predictor, inputs, args.output, save=args.save, score_threshold=args.confidence)
    print(f"Results of {len(inputs) - len(failures)} of {len(inputs)} inputs are in {args.output}")
    for failure in failures:
        if failure.begun:
            print(f"failed: {failure.reason}", file=sys.stderr)
    left = sum(not failure.begun for failure in failures)
    if left:
        print(f"interrupted before {left} inputs were begun", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
