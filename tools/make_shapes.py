"""Write the synthetic dataset ``shapes``: overlapping textured shapes with exact labels.

With --rare-share, write ``shapes_rare``: crosses have that share of the training things; in val the classes are alike,
so that the rare one can be scored. There, each thing class has a semantic id of its own.

Examples:
    python tools/make_shapes.py
    python tools/make_shapes.py --rare-share 0.01
"""

import argparse
import os
from pathlib import Path

from mtl_d2.data.datasets import datasets_root
from mtl_d2.data.schema import DatasetError
from mtl_d2.data.shapes import Recipe, write_shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name: str, kind: type, default: object, what: str) -> None:
        parser.add_argument(name, type=kind, default=default, help=f"{what} (default: %(default)s)")

    parser.add_argument(
        "--output", type=Path, help=f"folder to make (default: shapes or shapes_rare in {datasets_root()})"
    )
    add("--train", int, Recipe.train, "training images")
    add("--val", int, Recipe.val, "validation images")
    add("--size", int, Recipe.size, "side of an image in pixels")
    add("--seed", int, Recipe.seed, "another seed gives other scenes")
    add("--rare-share", float, None, "of crosses among the training things, in [0, 1]")
    add("--workers", int, os.cpu_count() or 1, "processes; the files are the same")
    args = parser.parse_args()
    output = args.output or datasets_root() / ("shapes" if args.rare_share is None else "shapes_rare")
    try:
        recipe = Recipe(train=args.train, val=args.val, size=args.size, seed=args.seed, rare_share=args.rare_share)
        made = write_shapes(output, recipe, workers=args.workers)
    except DatasetError as error:
        parser.error(str(error))
    print(f"{output}: {recipe.train} train and {recipe.val} val images" + ("" if made else ", already there"))


if __name__ == "__main__":
    main()
