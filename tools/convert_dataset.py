#!/usr/bin/env python
"""Convert a published dataset into the form that mtl_d2 reads: a description (YAML) per split, and its labels.

Images stay where they are, unless --copy is given. Stopped, the same command goes on where it was; what is there
already is kept. docs/datasets.md says what to download, and what is made of it.

Exit status: 0 where all is there, 2 for wrong input.

Examples:

  python tools/convert_dataset.py coco_panoptic datasets/coco --output datasets/coco_panoptic --splits val2017
  python tools/convert_dataset.py cityscapes datasets/cityscapes --output datasets/cityscapes_mtl --jobs 8
  python tools/convert_dataset.py bsds500 datasets/BSR --output datasets/bsds500
  python tools/convert_dataset.py dsb2018 datasets/dsb2018 --output datasets/nuclei_own --seed 1 --copy
"""

import argparse
import os
import sys
from pathlib import Path

from mtl_d2.data.converters import FORMATS, convert_dataset
from mtl_d2.data.images import BrokenSampleError
from mtl_d2.data.schema import DatasetError


def parser() -> argparse.ArgumentParser:
    """One subcommand per format."""
    formatter = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    formats = result.add_subparsers(dest="form", required=True, metavar="FORMAT")
    for name, module in FORMATS.items():
        sub = formats.add_parser(name, help=module.SUMMARY, description=module.__doc__, formatter_class=formatter)
        sub.add_argument("source", type=Path, metavar="SOURCE", help="folder of the dataset as it was unpacked")
        sub.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
        usual = " ".join(module.SPLITS)
        sub.add_argument("--splits", nargs="+", metavar="NAME", help=f"which (default: {usual})")
        sub.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
        sub.add_argument("--copy", action="store_true", help="copy the images into DIR")
        module.add_arguments(sub)
    return result


def main(argv: list[str] | None = None) -> int:
    args = vars(parser().parse_args(argv))
    output = args["output"]
    try:
        made = convert_dataset(**args)
    except (DatasetError, BrokenSampleError, OSError) as error:
        print(f"convert_dataset.py {args['form']}: {error}", file=sys.stderr)
        return 2
    for split, count in made.items():
        print(f"{output / split}.yaml: {count} images")
    if not made:
        print(f"{output}: all is there already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
