#!/usr/bin/env python3
"""Train on three disjoint thirds of the images, each labelled for one task only, and with all labels on all images.

A third of the training images keeps its instances, another its semantic maps, the last its edges: as PNGs, thinned to
one pixel, without void, where all labels together have edges derived after augmentation. Networks of one config are
trained for each seed:

  full      all labels on all images, N steps
  disjoint  the three thirds together, N steps: against "full" at equal steps
  short     all labels on all images, N / 3 steps: each task has seen as many labelled images as in "disjoint"
  long      the three thirds together, 3 N steps: each task has seen as many labelled images as in "full"

A run whose record is complete is not repeated. `tools/write_results.py` makes the table from the records that were kept
as results/disjoint/DATASET_VARIANT_seedS.json.

Examples:
    python tools/disjoint_labels.py --steps 330 --seeds 1 2 3 --processes 2
    python tools/disjoint_labels.py --config-file configs/nuclei/cpu.yaml --steps 500 --seeds 1 --processes 2
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm
from train_once import exit_status, train_once

import mtl_d2  # noqa: F401  it registers the datasets
from mtl_d2.data import DatasetSchema
from mtl_d2.engine.defaults import setup_cfg
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from mtl_d2.structures.edges import EDGE

TASKS = ("instance", "sem_seg", "edge")
FILES = ("json_file", "image_root", "sem_seg_root")  # of the dataset, in its metadata
STEPS = {"full": 1, "disjoint": 1, "short": 1 / 3, "long": 3}  # by variant, in units of --steps


def write_thirds(dataset: str, folder: Path, seed: int) -> list[Path]:
    """Describe the three parts of a dataset in ``folder``; see README, "Your own data", for the form."""
    records = DatasetCatalog.get(dataset)
    metadata = MetadataCatalog.get(dataset)
    schema = DatasetSchema.from_metadata(metadata)
    order = np.random.default_rng(seed).permutation(len(records))
    parts = {task: [records[i] for i in sorted(order[k::3])] for k, task in enumerate(TASKS)}
    labels = {
        "instance": {
            "instances": str(Path(metadata.json_file).resolve()),
            "thing_classes": list(schema.thing_classes),
            "max_dets": schema.max_dets,
        },
        "sem_seg": {
            "semantic": {
                "folder": str(Path(metadata.sem_seg_root).resolve()),
                "classes": list(schema.stuff_classes),
                "stuff": [schema.stuff_classes[i] for i in schema.stuff_ids or ()],
                "ignore_label": schema.ignore_label,
            }
        },
        "edge": {"edges": {"folder": "edges"}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(metadata.image_root).resolve()
    paths = []
    for task, part in parts.items():
        names = [Path(record["file_name"]).resolve().relative_to(root).as_posix() for record in part]
        name = f"{dataset}_{task}_third_{seed}"
        (folder / f"{task}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        description = {"name": name, "images": str(root), "split": f"{task}.txt", **labels[task]}
        paths.append(folder / f"{task}.yaml")
        paths[-1].write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True), encoding="utf-8")
        if task == "edge":
            write_edges(part, names, folder / "edges", schema.ignore_label)
    return paths


def write_edges(records: list[dict], names: list[str], folder: Path, ignore_label: int) -> None:
    """PNGs of 0 and 255 from the masks and semantic maps of the images."""
    for record, name in zip(tqdm(records, desc="edge maps", disable=None), names, strict=True):
        path = (folder / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.where(ground_truth_edges(record, ignore_label) == EDGE, 255, 0).astype(np.uint8))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="configs/shapes/demo.yaml", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("output/disjoint"), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of weights, order and thirds")
    parser.add_argument("--steps", type=int, default=330, help="N (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="of one training (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", choices=STEPS, default=list(STEPS), help="default: all")
    args = parser.parse_args()
    if args.steps < 3:
        parser.error(f"--steps {args.steps}: expected 3 or more")
    dataset = setup_cfg(args.config_file).DATASETS.TRAIN[0]
    if not all(MetadataCatalog.get(dataset).get(key) for key in FILES):
        parser.error(
            f"DATASETS.TRAIN: {dataset!r} has no {', '.join(FILES)}, expected a dataset of register_coco_multitask"
        )
    failed = []
    for seed in args.seeds:
        for variant in args.variants:
            options = ["SOLVER.MAX_ITER", str(int(args.steps * STEPS[variant])), "SEED", str(seed)]
            if variant in ("disjoint", "long"):
                thirds = write_thirds(dataset, args.output / f"{dataset}_thirds_seed{seed}", seed)
                options += ["DATASETS.TRAIN", repr(tuple(map(str, thirds)))]
            output = args.output / f"{dataset}_{variant}_seed{seed}"
            if not train_once(output, options, args.config_file, processes=args.processes):
                failed.append(output / "console.txt")
    return exit_status(failed)


if __name__ == "__main__":
    sys.exit(main())
