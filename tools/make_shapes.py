"""Write the synthetic dataset ``shapes``: overlapping textured shapes with exact labels."""

import argparse
import os
from pathlib import Path

from mtl_d2.data.datasets import datasets_root
from mtl_d2.data.schema import DatasetError
from mtl_d2.data.shapes import Recipe, write_shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output", type=Path, default=datasets_root() / "shapes", help="folder to make")
    parser.add_argument("--train", type=int, default=Recipe.train, help="training images")
    parser.add_argument("--val", type=int, default=Recipe.val, help="validation images")
    parser.add_argument("--size", type=int, default=Recipe.size, help="side of an image in pixels")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="another seed gives other scenes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; the files are the same")
    args = parser.parse_args()
    recipe = Recipe(train=args.train, val=args.val, size=args.size, seed=args.seed)
    try:
        made = write_shapes(args.output, recipe, workers=args.workers)
    except DatasetError as error:
        parser.error(str(error))
    print(f"{args.output}: {recipe.train} train and {recipe.val} val images" + ("" if made else ", already there"))


if __name__ == "__main__":
    main()
