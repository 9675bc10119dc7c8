#!/usr/bin/env python
"""Draw what a trained network says about images of a dataset, beside their labels.

    python tools/draw_panels.py --config-file configs/shapes/demo.yaml \\
        --weights output/demo/model_final.pth --output output/panels --num-images 8

writes one panel per image and overview.png, all panels below each other. Without --dataset the first of the
config's DATASETS.TEST is used. Tasks and datasets of your own are drawn too: --import the file that registers them.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, detection_utils
from PIL import Image
from tqdm import tqdm

import mtl_d2  # noqa: F401  registers models and datasets
from mtl_d2.data import resolve_dataset
from mtl_d2.evaluation.classification import record_image_labels
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from mtl_d2.visualization import draw_overview, draw_panel, read_labels
from mtl_d2.visualization.image_labels import name_image_labels


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
    """Import Python files, for what they register."""
    for path in paths:
        spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        if spec is None or spec.loader is None or not Path(path).is_file():
            sys.exit(f"draw_panels.py: --import {path}: expected a Python file (.py).")
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def build(args: argparse.Namespace) -> tuple[CfgNode, torch.nn.Module]:
    """The config, and the model with its weights, ready for inference."""
    from detectron2.modeling import build_model

    from mtl_d2.engine.checkpoint import load_weights
    from mtl_d2.engine.defaults import setup_cfg

    cfg = setup_cfg(args.config_file, args.opts)
    model = build_model(cfg)
    load_weights(model, args.weights or cfg.MODEL.WEIGHTS)
    return cfg, model.eval()


def predictions(cfg: CfgNode, model: torch.nn.Module, dataset: str) -> Iterator[tuple[dict, dict[str, Any]]]:
    """Pairs of a model input and its output, in the dataset's order."""
    from mtl_d2.data.build import build_multitask_test_loader

    for batch in build_multitask_test_loader(cfg, dataset):
        with torch.no_grad():
            outputs = model(batch)
        yield from zip(batch, outputs, strict=True)


def main() -> None:
    args = parse_args()
    import_files(args.imports)
    cfg, model = build(args)
    dataset = resolve_dataset(args.dataset or cfg.DATASETS.TEST[0])
    records = {record["image_id"]: record for record in DatasetCatalog.get(dataset)}
    metadata = name_image_labels(MetadataCatalog.get(dataset), cfg.INPUT.MTL.IMAGE_LABELS)
    read_image_labels = partial(
        record_image_labels, source=cfg.INPUT.MTL.IMAGE_LABELS, num_classes=len(metadata.image_label_classes)
    )
    args.output.mkdir(parents=True, exist_ok=True)

    panels: list[np.ndarray] = []
    total = min(args.num_images, len(records))
    pairs = zip(range(total), predictions(cfg, model, dataset), strict=False)
    for _, (image_input, output) in tqdm(pairs, total=total, unit="image", disable=None):
        record = records[image_input["image_id"]]
        path = Path(record["file_name"])
        image = detection_utils.read_image(str(path), format="RGB")
        labels = None
        if not args.no_labels:
            labels = read_labels(
                record,
                metadata.get("ignore_label", 255),
                read_edges=ground_truth_edges,
                read_image_labels=read_image_labels if "image_labels" in output else None,
            )
        panel = draw_panel(image, output, metadata, labels=labels, score_threshold=args.score_threshold, name=path.name)
        Image.fromarray(panel).save(args.output / f"{path.stem}.png")
        panels.append(panel)
    Image.fromarray(draw_overview(panels)).save(args.output / "overview.png")
    print(f"Wrote {len(panels)} panels and overview.png to {args.output}")


if __name__ == "__main__":
    main()
