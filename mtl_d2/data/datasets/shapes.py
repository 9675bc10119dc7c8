"""The synthetic scenes that ``tools/make_shapes.py`` writes: shapes, shapes_easy, and both with a rare class."""

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
# Each thing class is a semantic class too: that of the rare one can be scored.
RARE_SCHEMA = DatasetSchema(
    thing_classes=THING_CLASSES,
    stuff_classes=(*THING_CLASSES, *STUFF_CLASSES),
    stuff_ids=range(len(THING_CLASSES), len(THING_CLASSES) + len(STUFF_CLASSES)),
    edge_source="union",
    thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(THING_CLASSES))},
)
FAMILIES = {"shapes": SCHEMA, "shapes_rare": RARE_SCHEMA, "shapes_easy": SCHEMA, "shapes_easy_rare": RARE_SCHEMA}


def register(root: Path, *, replace: bool = False) -> None:
    """Register the splits of each family, such as shapes_train and shapes_val under ``root``/shapes."""
    for family, schema in FAMILIES.items():
        for split in ("train", "val"):
            register_dataset(
                f"{family}_{split}",
                functools.partial(load_shapes, root / family, split, family),
                schema,
                replace=replace,
                **_paths(root / family, split),
            )


def load_shapes(folder: Path, split: str, family: str = "shapes") -> list[dict]:
    """Records of "train" or "val"; DatasetError if the folder is missing, of another family or recipe version."""
    name = f"{family}_{split}"
    easy, rare = "_easy" in family, "_rare" in family
    command = "tools/make_shapes.py" + " --easy" * easy + " --rare-share 0.01" * rare
    recipe = folder / "recipe.json"
    require_path(folder, f"dataset '{name}'", f"run {command}, or set DETECTRON2_DATASETS")
    require_path(recipe, f"dataset '{name}'", f"remove the folder and run {command}")
    found = json.loads(recipe.read_text())
    if found.get("version") != RECIPE_VERSION:
        raise DatasetError(
            f"{recipe}: 'version': found {found.get('version')!r}, expected {RECIPE_VERSION}, scores on two recipes do "
            f"not compare; remove the folder and run {command}."
        )
    for key, right, expected in (
        ("rare_share", (found.get("rare_share") is not None) == rare, "a number" if rare else "null"),
        (
            "style",
            found.get("style", "standard") == ("easy" if easy else "standard"),
            '"easy"' if easy else '"standard"',
        ),
    ):
        if not right:
            raise DatasetError(
                f"{recipe}: '{key}': found {json.dumps(found.get(key))}, expected {expected} for dataset '{name}'; "
                f"remove the folder and run {command}."
            )
    paths = _paths(folder, split)
    return load_coco_multitask(
        paths["json_file"],
        paths["image_root"],
        paths["sem_seg_root"],
        FAMILIES[family].edge_source,
        thing_classes=THING_CLASSES,
        dataset_name=name,
    )


def _paths(folder: Path, split: str) -> dict[str, str]:
    return {
        "json_file": str(folder / f"instances_{split}.json"),
        "image_root": str(folder / "images"),
        "sem_seg_root": str(folder / "semantic"),
    }
