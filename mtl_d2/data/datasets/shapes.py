"""shapes: synthetic scenes that ``tools/make_shapes.py`` writes."""

import functools
import json
from pathlib import Path

from mtl_d2.data.datasets.coco_format import load_coco_multitask, require_path
from mtl_d2.data.datasets.register import register_dataset
from mtl_d2.data.schema import DatasetError, DatasetSchema
from mtl_d2.data.shapes_scene import RECIPE_VERSION, STUFF_CLASSES, THING_CLASSES

SCHEMA = DatasetSchema(
    thing_classes=THING_CLASSES,
    stuff_classes=("things", *STUFF_CLASSES),
    stuff_ids=range(1, 1 + len(STUFF_CLASSES)),
    edge_source="union",
    thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(THING_CLASSES))},
)


def register(root: Path, *, replace: bool = False) -> None:
    """Register shapes_train and shapes_val, under ``root``/shapes."""
    for split in ("train", "val"):
        register_dataset(
            f"shapes_{split}",
            functools.partial(load_shapes, root / "shapes", split),
            SCHEMA,
            replace=replace,
            **_paths(root / "shapes", split),
        )


def load_shapes(folder: Path, split: str) -> list[dict]:
    """Records of "train" or "val"; DatasetError if the folder is missing or of another recipe version."""
    name = f"shapes_{split}"
    recipe = folder / "recipe.json"
    require_path(folder, f"dataset '{name}'", "run tools/make_shapes.py, or set DETECTRON2_DATASETS")
    require_path(recipe, f"dataset '{name}'", "remove the folder and run tools/make_shapes.py")
    version = json.loads(recipe.read_text()).get("version")
    if version != RECIPE_VERSION:
        raise DatasetError(
            f"{recipe}: 'version': found {version!r}, expected {RECIPE_VERSION}, scores on two recipes do "
            "not compare; remove the folder and run tools/make_shapes.py."
        )
    paths = _paths(folder, split)
    return load_coco_multitask(
        paths["json_file"],
        paths["image_root"],
        paths["sem_seg_root"],
        SCHEMA.edge_source,
        thing_classes=SCHEMA.thing_classes,
        dataset_name=name,
    )


def _paths(folder: Path, split: str) -> dict[str, str]:
    return {
        "json_file": str(folder / f"instances_{split}.json"),
        "image_root": str(folder / "images"),
        "sem_seg_root": str(folder / "semantic"),
    }
