#!/usr/bin/env python
"""Draw what a trained network says about images of a dataset, beside their labels.

    python tools/draw_panels.py --config-file configs/shapes/demo.yaml \\
        --weights output/demo/model_final.pth --output output/panels --num-images 8

writes one panel per image and overview.png, all panels below each other. Without --dataset the first of the
config's DATASETS.TEST is used. Tasks and datasets of your own are drawn too: --import the file that registers them.
The exit status is 2 for wrong input, such as weights that lack the layers of a task.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mtl_d2 import Predictor
from mtl_d2.data import MultiTaskDatasetMapper, get_records, resolve_dataset
from mtl_d2.data.images import read_image
from mtl_d2.engine import setup_cfg
from mtl_d2.engine.defaults import check_device
from mtl_d2.evaluation.classification import record_image_labels
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from mtl_d2.predictor.inputs import unique_name
from mtl_d2.predictor.pictures import find_metadata
from mtl_d2.visualization import draw_overview, draw_panel, read_labels


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--weights", metavar="FILE", help="a checkpoint; without it, the config's MODEL.WEIGHTS")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument("--num-images", type=int, default=8, help="the first so many of the dataset (default: 8)")
    parser.add_argument("--dataset", metavar="NAME", help="a registered dataset, or the YAML of one")
    parser.add_argument("--score-threshold", type=float, default=0.5, help="of the instances that are drawn")
    parser.add_argument("--no-labels", action="store_true", help="leave out the row of labels")
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="FILE", help="a file to run first"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes of the config")
    args = parser.parse_args()
    if args.num_images < 1:
        parser.error(f"--num-images {args.num_images}: expected 1 or more")
    return args


def import_files(paths: list[str]) -> None:
    """Import Python files, for what they register.

    Raises:
        ValueError: one of them is none.
    """
    for path in paths:
        spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        if spec is None or spec.loader is None or not Path(path).is_file():
            raise ValueError(f"--import {path}: expected a Python file (.py).")
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def build(args: argparse.Namespace) -> Predictor:
    """The network with its weights, and its config.

    Raises:
        ValueError: see :class:`mtl_d2.Predictor`.
    """
    cfg = setup_cfg(args.config_file, args.opts)
    check_device(cfg.MODEL.DEVICE, "MODEL.DEVICE cpu")
    return Predictor(cfg, args.weights)


def choose_dataset(args: argparse.Namespace, predictor: Predictor) -> str:
    """The name of the dataset to draw."""
    if not args.dataset and not predictor.cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST: found no dataset; name one with --dataset.")
    return resolve_dataset(args.dataset or predictor.cfg.DATASETS.TEST[0])


def predictions(predictor: Predictor, records: list[dict[str, Any]]) -> Iterator[tuple[dict, dict[str, Any]]]:
    """Pairs of a record and the network's output, as in evaluation."""
    mapper = MultiTaskDatasetMapper(predictor.cfg, is_train=False)
    for record in tqdm(records, unit="image", disable=None):
        yield record, predictor.model.inference([mapper(record)])[0]


def draw_panels(args: argparse.Namespace) -> int:
    """Draw and write the panels; returns their number."""
    import_files(args.imports)
    predictor = build(args)
    dataset = choose_dataset(args, predictor)
    records = get_records([dataset])[: args.num_images]
    metadata = find_metadata(predictor.cfg, dataset)
    read_image_labels = partial(
        record_image_labels,
        source=predictor.cfg.INPUT.MTL.IMAGE_LABELS,
        num_classes=len(metadata.image_label_classes),
        ignore_label=metadata.get("ignore_label", 255),
    )
    args.output.mkdir(parents=True, exist_ok=True)

    panels: list[np.ndarray] = []
    used = {"overview"}
    for record, output in predictions(predictor, records):
        path = Path(record["file_name"])
        labels = None
        if not args.no_labels:
            labels = read_labels(
                record,
                metadata.get("ignore_label", 255),
                read_edges=ground_truth_edges,
                read_image_labels=read_image_labels if "image_labels" in output else None,
            )
        image = read_image(str(path), "RGB")
        panel = draw_panel(image, output, metadata, labels=labels, score_threshold=args.score_threshold, name=path.name)
        Image.fromarray(panel).save(args.output / f"{unique_name(path.stem, used)}.png")
        panels.append(panel)
    Image.fromarray(draw_overview(panels)).save(args.output / "overview.png")
    return len(panels)


def main() -> int:
    args = parse_args()
    try:
        count = draw_panels(args)
    except (ValueError, OSError) as error:
        print(f"draw_panels.py: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {count} panels and overview.png to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
