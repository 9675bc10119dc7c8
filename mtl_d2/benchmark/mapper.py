"""MultiTaskDatasetMapper with all three tasks against Detectron2's DatasetMapper with bitmasks and semantics.

Both get the same records and the same draws of the same augmentations. Image, boxes, classes and semantics have to be
equal, masks up to one pixel in a million; ours makes the edges on top of that. The masks are given as RLE and as
polygons in turn (the form that the dataset does not have is converted from the other), and a pass over all images is
timed, in CPU seconds of this process: reading, augmentation and targets.

  nuclei, as they are trained:   python tools/benchmark.py mapper --dataset nuclei_train
  without coco_mini:             python tools/benchmark.py mapper --dataset shapes_train
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, MetadataCatalog

from mtl_d2.data import DatasetSchema, MultiTaskDatasetMapper, get_records
from mtl_d2.data.datasets.register import datasets_root
from mtl_d2.data.datasets.shapes import SCHEMA as SHAPES
from mtl_d2.data.datasets.shapes import load_shapes
from mtl_d2.data.seeded import seeded
from mtl_d2.data.shapes import Recipe, write_shapes
from mtl_d2.data.transforms import build_augmentations
from mtl_d2.engine.defaults import setup_cfg

from .equality import Check, relative_difference
from .mask_forms import with_polygons, with_rles
from .report import Comparison, Findings, compare
from .timing import measure

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "samples with the targets of three tasks against Detectron2's DatasetMapper"
OURS, THEIRS = "MultiTaskDatasetMapper", "DatasetMapper"
GOAL = 0.60
MASK_TOLERANCE = 1e-6
FORMS = {"RLE": with_rles, "polygons": with_polygons}
CONFIGS = {"shapes": "configs/shapes/demo.yaml", "nuclei": "configs/nuclei/gpu.yaml"}

Record = dict[str, Any]
Mapper = Callable[[Record], dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`run` reads."""
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="default: coco_mini_train; where it is not there, shapes drawn for the purpose",
    )
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="for the augmentations (default: configs/Base-MultiTaskFPN.yaml, for shapes and nuclei their own)",
    )
    parser.add_argument("--num-images", type=int, default=30, metavar="N", help="evenly spaced (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=12, metavar="N", help="counted rounds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the augmentations (default: %(default)s)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes of the config, for both")


def run(args: argparse.Namespace) -> Findings:
    """Check equality on every image, then time passes over all of them.

    Raises:
        ValueError, FileNotFoundError: wrong options, or a dataset that cannot be read.
    """
    for option, value, least in (("--num-images", args.num_images, 1), ("--rounds", args.rounds, 2)):
        if value < least:
            raise ValueError(f"{option} {value}: expected {least} or more")
    checks: list[Check] = []
    comparisons: list[Comparison] = []
    with open_dataset(args.dataset, args.num_images) as (name, records, schema):
        cfg = build_cfg(args.config_file or CONFIGS.get(name.split("_")[0]), schema, args.opts)
        mappers = build_mappers(cfg)
        forms = {form: [convert(record) for record in records] for form, convert in FORMS.items()}
        for form, converted in forms.items():
            checks += check_equality(mappers, converted, args.seed, form)
        if all(check.equal for check in checks):
            for form, converted in forms.items():
                runs = {key: one_pass(mapper, converted, args.seed) for key, mapper in mappers.items()}
                seconds = measure(runs, rounds=args.rounds, device="cpu", title=form)
                comparisons.append(compare(f"sample, {name}, {form}", seconds, images=len(records), goal=GOAL))
        setting = describe(name, records, mappers[OURS], cfg)
    return Findings(
        device="cpu",
        rounds=args.rounds,
        seed=args.seed,
        setting=setting,
        checks=checks,
        comparisons=comparisons,
    )


@contextmanager
def open_dataset(name: str | None, count: int) -> Iterator[tuple[str, list[Record], DatasetSchema]]:
    """Name, records with objects and all labels (evenly spaced), and schema of a registered dataset.

    Without a name it is coco_mini_train, or scenes of shapes that are drawn into a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="mtl_d2_benchmark_") as folder:
        if name is None and not (datasets_root() / "coco_mini").is_dir():
            shapes = Path(folder) / "shapes"
            write_shapes(shapes, Recipe(train=count, val=1))
            name, records, schema = "shapes", load_shapes(shapes, "train"), SHAPES
        else:
            name = name or "coco_mini_train"
            records = get_records([name])
            schema = DatasetSchema.from_metadata(MetadataCatalog.get(name))
        usable = [record for record in records if is_usable(record)]
        if not usable:
            raise ValueError(f"--dataset {name}: found no image with masks, semantics and edges, expected all three.")
        chosen = np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int))
        yield name, [with_float_boxes(usable[i]) for i in chosen.tolist()], schema


def with_float_boxes(record: Record) -> Record:
    """A copy whose boxes are floats: Detectron2 resizes those of integers as integers, a pixel too small."""
    annotations = [{**a, "bbox": [float(value) for value in a["bbox"]]} for a in record["annotations"]]
    return {**record, "annotations": annotations}


def is_usable(record: Record) -> bool:
    """All labels are there, and an object: Detectron2's mapper gives an image without one no masks."""
    objects = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
    has_masks = bool(objects) and all("segmentation" in annotation for annotation in record["annotations"])
    return has_masks and "sem_seg_file_name" in record and record.get("edge_source", "none") != "none"


def build_cfg(config_file: str | None, schema: DatasetSchema, opts: Sequence[str]) -> CfgNode:
    """The config of both mappers, with the dataset's classes."""
    classes = ["MODEL.ROI_HEADS.NUM_CLASSES", len(schema.thing_classes)]
    classes += ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", len(schema.stuff_classes)]
    classes += ["MODEL.SEM_SEG_HEAD.IGNORE_VALUE", schema.ignore_label]
    return setup_cfg(config_file or "configs/Base-MultiTaskFPN.yaml", [*classes, *opts])


def build_mappers(cfg: CfgNode) -> dict[str, Mapper]:
    """Both, with one list of augmentations."""
    augmentations = build_augmentations(cfg, is_train=True)
    theirs = DatasetMapper(
        is_train=True,
        augmentations=augmentations,
        image_format=cfg.INPUT.FORMAT,
        use_instance_mask=True,
        instance_mask_format="bitmask",
        recompute_boxes=cfg.INPUT.CROP.ENABLED,
    )
    tasks = ["instance", "sem_seg", "edge"]
    return {OURS: MultiTaskDatasetMapper(cfg, is_train=True, tasks=tasks, augmentations=augmentations), THEIRS: theirs}


def one_pass(mapper: Mapper, records: Sequence[Record], seed: int) -> Callable[[], None]:
    """What is timed: all records, each under its own random state."""

    def run_all() -> None:
        for index, record in enumerate(records):
            with seeded(seed, index):
                mapper(record)

    return run_all


def check_equality(mappers: dict[str, Mapper], records: Sequence[Record], seed: int, form: str) -> list[Check]:
    """The largest difference of all samples: of masks the share of pixels, else relative."""
    worst = dict.fromkeys(("image", "boxes", "classes", "semantics", "masks"), 0.0)
    for index, record in enumerate(records):
        parts = []
        for mapper in mappers.values():
            with seeded(seed, index):
                parts.append(_parts(mapper(record)))
        for key in worst:
            difference = _mask_difference if key == "masks" else relative_difference
            worst[key] = max(worst[key], difference(parts[0][key], parts[1][key]))
    return [
        Check(name=f"{key}, {form}", difference=value, tolerance=MASK_TOLERANCE if key == "masks" else 0.0)
        for key, value in worst.items()
    ]


def _parts(sample: dict[str, Any]) -> dict[str, torch.Tensor]:
    instances = sample["instances"]
    return {
        "image": sample["image"],
        "boxes": instances.gt_boxes.tensor,
        "classes": instances.gt_classes,
        "semantics": sample["sem_seg"],
        "masks": instances.gt_masks.tensor,
    }


def _mask_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The share of pixels that differ; infinite where the shapes do."""
    if found.shape != expected.shape:
        return float("inf")
    return float((found != expected).sum()) / max(1, expected.numel())


def describe(name: str, records: Sequence[Record], mapper: Mapper, cfg: CfgNode) -> dict[str, str]:
    """What the figures hold for."""
    sizes = np.array([(record["height"], record["width"]) for record in records])
    objects = [len(record["annotations"]) for record in records]
    with seeded(0):
        height, width = mapper(records[0])["image"].shape[1:]
    return {
        "dataset": f"{name}, {len(records)} images with {np.mean(objects):.1f} objects each",
        "size of the files": f"{sizes[:, 0].mean():.0f}x{sizes[:, 1].mean():.0f} on average",
        "size of the first sample": f"{height}x{width}",
        "crop": f"{cfg.INPUT.CROP.TYPE} {list(cfg.INPUT.CROP.SIZE)}" if cfg.INPUT.CROP.ENABLED else "none",
    }
