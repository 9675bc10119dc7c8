"""Write the synthetic dataset ``shapes``: overlapping textured shapes with exact labels.

With --rare-share, write ``shapes_rare``: crosses have that share of the training things; in val the classes are alike,
so that the rare one can be scored. There, each thing class has a semantic id of its own.

With --easy, write ``shapes_easy``: 96 pixels, one to three large things in the colours of their class. A small network
learns them in minutes on a CPU, so that whole comparisons of trainings are affordable.
Both options together write ``shapes_easy_rare``.

The corners of bars and crosses are keypoints: keypoints_{train,val}.json, which are added to a folder that lacks them.

Examples:
    python tools/make_shapes.py
    python tools/make_shapes.py --rare-share 0.01
    python tools/make_shapes.py --easy
"""

import argparse
import os
from pathlib import Path

from mtl_d2.data.datasets import datasets_root
from mtl_d2.data.schema import DatasetError
from mtl_d2.data.shapes import Recipe, write_shapes

EASY_SIZE = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name: str, kind: type, default: object, what: str) -> None:
        parser.add_argument(name, type=kind, default=default, help=f"{what} (default: %(default)s)")

    parser.add_argument(
        "--output", type=Path, help=f"folder to make (default: shapes, with _easy and _rare, in {datasets_root()})"
    )
    parser.add_argument("--easy", action="store_true", help="large things of a colour of their class")
    add("--train", int, Recipe.train, "training images")
    add("--val", int, Recipe.val, "validation images")
    parser.add_argument(
        "--size", type=int, help=f"side of an image in pixels (default: {Recipe.size}, easy {EASY_SIZE})"
    )
    add("--seed", int, Recipe.seed, "another seed gives other scenes")
    add("--rare-share", float, None, "of crosses among the training things, in [0, 1]")
    add("--workers", int, os.cpu_count() or 1, "processes; the files are the same")
    args = parser.parse_args()
    output = args.output or datasets_root() / ("shapes" + "_easy" * args.easy + "_rare" * (args.rare_share is not None))
    try:
        recipe = Recipe(
            train=args.train,
            val=args.val,
            size=args.size if args.size is not None else EASY_SIZE if args.easy else Recipe.size,
            seed=args.seed,
            rare_share=args.rare_share,
            style="easy" if args.easy else "standard",
        )
        made = write_shapes(output, recipe, workers=args.workers)
    except DatasetError as error:
        parser.error(str(error))
    print(f"{output}: {recipe.train} train and {recipe.val} val images" + ("" if made else ", already there"))


if __name__ == "__main__":
    main()
