"""Labels of whole images, from a json {image name: [class names]}, or one of COCO's form."""

import json
from collections.abc import Sequence
from typing import Any

from mtl_d2.data.description import ImageLabels
from mtl_d2.data.description_keys import did_you_mean, relative_name
from mtl_d2.data.schema import DatasetError


def add_image_labels(records: Sequence[dict], names: Sequence[str], labels: ImageLabels, folder: str) -> None:
    """Set ``image_labels``, the sorted contiguous class ids, on the records of the images that the json lists.

    Args:
        records: of the images.
        names: of the images, relative to their folder.
        labels: the json and the classes. It may list other images too, such as those of another split. Of COCO's form,
            it has ``images``, ``categories``, and an annotation (``image_id``, ``category_id``) for each label.
        folder: of the images.

    Raises:
        DatasetError: the file is no json of that form, names an unknown class, or lists none of the images.
    """
    found = read_image_labels(labels.file, folder)
    ids = {name: _class_ids(labels, name, classes) for name, classes in found.items()}
    for record, name in zip(records, names, strict=True):
        if name in ids:
            record["image_labels"] = ids[name]
    if not any("image_labels" in record for record in records):
        raise DatasetError(
            f"{labels.file}: lists none of the {len(records)} images, expected names such as {names[0]!r}; correct it."
        )


def read_image_labels(file: str, folder: str) -> dict[str, Any]:
    """``{image name, relative to the folder of the images: class names}`` of a json; the classes are not checked.

    Raises:
        DatasetError: the file is no json of that form.
    """
    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: cannot be read as json ({error}); restore the file.") from error
    if not isinstance(content, dict):
        found = type(content).__name__
        raise DatasetError(f"{file}: found a {found}, expected {{image name: [class names]}}; correct it.")
    if isinstance(content.get("annotations"), list) and isinstance(content.get("images"), list):
        content = _from_coco(content, file)
    return {relative_name(name, folder): classes for name, classes in content.items()}


def _from_coco(content: dict[str, Any], file: str) -> dict[str, list[str]]:
    """{image name: [class names]}; an image without an annotation is labelled as one of no class."""
    try:
        names = {category["id"]: category["name"] for category in content["categories"]}
        images = {image["id"]: image["file_name"] for image in content["images"]}
        found: dict[str, list[str]] = {name: [] for name in images.values()}
        for annotation in content["annotations"]:
            found[images[annotation["image_id"]]].append(names[annotation["category_id"]])
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{file}: found no {error}, expected images (id, file_name), categories (id, name) and annotations "
            "(image_id, category_id of those) of COCO's form; correct it."
        ) from error
    return found


def _class_ids(labels: ImageLabels, name: str, classes: object) -> list[int]:
    if not isinstance(classes, list):
        raise DatasetError(f"{labels.file}: {name!r}: found {classes!r}, expected a list of class names; correct it.")
    for found in classes:
        if found not in labels.classes:
            raise DatasetError(f"{labels.file}: {name!r}: found {found!r}, {did_you_mean(found, labels.classes)}")
    return sorted({labels.classes.index(found) for found in classes})
