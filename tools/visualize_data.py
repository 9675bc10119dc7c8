#!/usr/bin/env python
"""Draw what the training mapper feeds the network: images and labels, with and without augmentation.

    python tools/visualize_data.py --config-file configs/shapes/demo.yaml --output output/data
    python tools/visualize_data.py --config-file configs/nuclei/gpu.yaml --output output/data --augment --samples 4
    python tools/visualize_data.py --config-file configs/shapes/demo.yaml --output output/data INPUT.CROP.ENABLED True

writes one picture an image, spread evenly over the dataset. The first row shows the image and its labels as they are
stored, each further one what the network gets in an epoch of the training (under the config's SEED, 0 where it is
negative). Void and ignored pixels are striped or grey; a label that an image does not have is said to be missing.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from PIL import Image
from tqdm import tqdm

import mtl_d2  # noqa: F401  registers the datasets
from mtl_d2.data import BrokenSampleError, MultiTaskDatasetMapper, resolve_dataset
from mtl_d2.data.build import Mapper, get_records
from mtl_d2.data.copy_paste import with_copy_paste
from mtl_d2.data.labels import task_labels
from mtl_d2.data.seeded import seeded
from mtl_d2.engine import build_train_mapper, setup_cfg
from mtl_d2.tasks.base import get_task
from mtl_d2.visualization.image_labels import name_image_labels
from mtl_d2.visualization.samples import draw_samples


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument("--dataset", metavar="NAME", help="or YAML; default: the first of DATASETS.TRAIN")
    parser.add_argument("--num-images", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="epochs that are shown (default: 1)")
    parser.add_argument(
        "--augment", action=argparse.BooleanOptionalAction, help="one kind of rows alone (default: both)"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes of the config")
    args = parser.parse_args()
    for name in ("num_images", "samples"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: expected 1 or more")
    return args


def build_mappers(
    cfg: CfgNode, records: list[dict[str, Any]], augment: bool | None, samples: int
) -> list[tuple[str, Mapper, int]]:
    """Title, mapper and epoch of each row."""
    rows: list[tuple[str, Mapper, int]] = []
    if not augment:
        options = MultiTaskDatasetMapper.from_config(cfg, is_train=True)
        stored = MultiTaskDatasetMapper(**{**options, "augmentations": [], "recompute_boxes": False})
        rows.append(("As stored", stored, 0))
    if augment is not False:
        training = with_copy_paste(cfg, build_train_mapper(cfg), records)
        rows += [(f"Training, epoch {epoch}", training, epoch) for epoch in range(samples)]
    return rows


def draw_images(args: argparse.Namespace, cfg: CfgNode, dataset: str) -> Iterator[tuple[str, np.ndarray | str]]:
    """File name and picture, or the reason why there is none, of each image."""
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    records = get_records([dataset], tasks=cfg.MODEL.MTL.TASKS, filter_empty=filter_empty, labels=task_labels(cfg))
    metadata = name_image_labels(MetadataCatalog.get(dataset), cfg.INPUT.MTL.IMAGE_LABELS)
    label_keys = list(dict.fromkeys(key for task in cfg.MODEL.MTL.TASKS for key in get_task(task).label_keys))
    rows = build_mappers(cfg, records, args.augment, args.samples)
    chosen = np.unique(np.linspace(0, len(records) - 1, min(args.num_images, len(records))).round().astype(int))
    for index in tqdm(chosen.tolist(), unit="image", disable=None):
        path = Path(records[index]["file_name"])
        samples: list[tuple[str, dict[str, Any]]] = []
        try:
            for title, mapper, epoch in rows:
                # The random state of the training's loader.
                with seeded(max(cfg.SEED, 0), epoch, index, 0):
                    samples.append((f"{title}: {path.name}", mapper(records[index])))
        except BrokenSampleError as error:
            yield path.name, str(error)
            continue
        picture = draw_samples(samples, metadata, label_keys=label_keys, image_format=cfg.INPUT.FORMAT)
        yield f"{index:06d}_{path.stem}.png", picture


def main() -> int:
    args = parse_args()
    broken, count = [], 0
    try:
        cfg = setup_cfg(args.config_file, args.opts)
        if not args.dataset and not cfg.DATASETS.TRAIN:
            raise ValueError("DATASETS.TRAIN: found no dataset; name one with --dataset.")
        # As in a training on them: by these names the mapper finds what the labels mean.
        cfg.DATASETS.TRAIN = tuple(map(resolve_dataset, [args.dataset] if args.dataset else cfg.DATASETS.TRAIN))
        args.output.mkdir(parents=True, exist_ok=True)
        for name, picture in draw_images(args, cfg, cfg.DATASETS.TRAIN[0]):
            if isinstance(picture, str):
                broken.append(picture)
            else:
                Image.fromarray(picture).save(args.output / name)
                count += 1
    except OSError as error:
        broken.append(f"{error.filename}: cannot be written ({error.strerror})" if error.filename else str(error))
    except ValueError as error:
        broken.append(str(error))
    if count:
        print(f"Wrote {count} pictures to {args.output}")
    for message in broken:
        print(f"visualize_data.py: {message}", file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
