"""The description of a corrected copy."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from ..datasets.image_labels import read_image_labels
from ..description import ALL_IMAGES, Description
from ..description_keys import relative_name
from ..schema import DatasetError, DatasetSchema


def described_keys(description: Description) -> dict[str, Any]:
    """The keys of a dataset's YAML file.

    Raises:
        DatasetError: it was described by a call.
    """
    if not os.path.isfile(description.source):
        raise DatasetError(f"{description.source}: only a dataset described by a file can be fixed; write its YAML.")
    return yaml.safe_load(Path(description.source).read_text(encoding="utf-8"))


def copied_keys(
    keys: dict[str, Any], description: Description, folder: Path, removed: Collection[str]
) -> dict[str, Any]:
    """The keys with the paths of the copy; files that are named beside the folders are copied.

    Args:
        keys: of the original.
        description: the original, with absolute paths.
        folder: of the copy, which has images/, semantic/, edges/ and instances.json.
        removed: paths of images that the copy lacks; they are left out of its split.
    """
    copied = {key: value for key, value in keys.items() if key != "name"}
    copied.update(images="images", instances="instances.json")
    if description.split not in (None, ALL_IMAGES):
        lines = Path(str(description.split)).read_text(encoding="utf-8-sig").splitlines()
        gone = {os.path.normpath(path) for path in removed}
        names = [relative_name(line.strip(), description.images) for line in lines]
        kept = [n for n in names if os.path.normpath(os.path.join(description.images, n)) not in gone]
        (folder / "split.txt").write_text("".join(f"{name}\n" for name in kept), encoding="utf-8")
        copied["split"] = "split.txt"
    for key, name in (("semantic", "semantic"), ("edges", "edges")):
        if "folder" in copied.get(key, {}):
            copied[key] = {**copied[key], "folder": name}
    if description.image_labels is not None:
        found = read_image_labels(description.image_labels.file, description.images)
        (folder / "image_labels.json").write_text(json.dumps(found), encoding="utf-8")
        copied["image_labels"] = {**copied["image_labels"], "file": "image_labels.json"}
    return copied


def schema_keys(schema: DatasetSchema, *, has_semantic: bool) -> dict[str, Any]:
    """Keys that describe the copy of a dataset that was registered by its schema."""
    keys: dict[str, Any] = {"images": "images", "instances": "instances.json"}
    keys["thing_classes"] = list(schema.thing_classes)
    if has_semantic:
        keys["semantic"] = {
            "folder": "semantic",
            "classes": list(schema.stuff_classes),
            "stuff": [schema.stuff_classes[i] for i in schema.stuff_ids or ()],
            "ignore_label": schema.ignore_label,
        }
    if schema.edge_source != "none":
        keys["edges"] = {"derive": schema.edge_source}
    return {**keys, "max_dets": schema.max_dets}
