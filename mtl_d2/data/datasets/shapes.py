"""The synthetic scenes that ``tools/make_shapes.py`` writes: shapes, shapes_easy, and both with a rare class."""

import functools
import json
from pathlib import Path
from typing import Any

from mtl_d2.data.datasets.coco_format import load_coco_multitask, require_path
from mtl_d2.data.datasets.register import register_dataset
from mtl_d2.data.schema import DatasetError, DatasetSchema
from mtl_d2.data.shapes_scene import CORNER_PAIRS, CORNERS, RECIPE_VERSION, STUFF_CLASSES, THING_CLASSES

_CORNERS: dict[str, Any] = {
    "keypoint_names": CORNERS,
    "keypoint_flip_map": CORNER_PAIRS,
    "keypoint_connection_rules": [
        (first, second, (255, 255, 255)) for first, second in zip(CORNERS, (*CORNERS[1:], CORNERS[0]), strict=True)
    ],
}
SCHEMA = DatasetSchema(
    thing_classes=THING_CLASSES,
    stuff_classes=("things", *STUFF_CLASSES),
    stuff_ids=range(1, 1 + len(STUFF_CLASSES)),
    edge_source="union",
    thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(THING_CLASSES))},
    **_CORNERS,
)
# Each thing class is a semantic class too: that of the rare one can be scored.
RARE_SCHEMA = DatasetSchema(
    thing_classes=THING_CLASSES,
    stuff_classes=(*THING_CLASSES, *STUFF_CLASSES),
    stuff_ids=range(len(THING_CLASSES), len(THING_CLASSES) + len(STUFF_CLASSES)),
    edge_source="union",
    thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(THING_CLASSES))},
    **_CORNERS,
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
                missing_labels={"keypoint": f"run {_command(family)} again, which adds keypoints_{split}.json"},
                **_paths(root / family, split),
            )


def load_shapes(folder: Path, split: str, family: str = "shapes") -> list[dict]:
    """Records of "train" or "val"; DatasetError if the folder is missing, of another family or recipe version.

    They have keypoints where the folder has them: those written before there were keypoints are the same without.
    """
    name = f"{family}_{split}"
    easy, rare = "_easy" in family, "_rare" in family
    command = _command(family)
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
    keypoints = folder / f"keypoints_{split}.json"
    return load_coco_multitask(
        keypoints if keypoints.is_file() else paths["json_file"],
        paths["image_root"],
        paths["sem_seg_root"],
        FAMILIES[family].edge_source,
        thing_classes=THING_CLASSES,
        dataset_name=name,
    )


def _command(family: str) -> str:
    return "tools/make_shapes.py" + " --easy" * ("_easy" in family) + " --rare-share 0.01" * ("_rare" in family)


def _paths(folder: Path, split: str) -> dict[str, str]:
    return {
        "json_file": str(folder / f"instances_{split}.json"),
        "image_root": str(folder / "images"),
        "sem_seg_root": str(folder / "semantic"),
    }
