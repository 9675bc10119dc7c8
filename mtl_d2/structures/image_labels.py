"""Labels of whole images: which classes are in them, and which label of a record says so."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

UNKNOWN = -1.0  # of a class that is neither known to be in an image nor known not to be


@dataclass(frozen=True)
class ImageLabelSource:
    """What image labels are made from.

    Attributes:
        record_key: of a dataset's record; an image without it is unlabelled.
        classes: field of the dataset's metadata with the names of the classes.
    """

    record_key: str
    classes: str


IMAGE_LABEL_SOURCES = {
    "given": ImageLabelSource("image_labels", "image_label_classes"),
    "instances": ImageLabelSource("annotations", "thing_classes"),
    "sem_seg": ImageLabelSource("sem_seg_file_name", "stuff_classes"),
}


def image_label_source(name: str) -> ImageLabelSource:
    """The source that ``INPUT.MTL.IMAGE_LABELS`` names.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in IMAGE_LABEL_SOURCES:
        known = ", ".join(map(repr, IMAGE_LABEL_SOURCES))
        raise ValueError(f"INPUT.MTL.IMAGE_LABELS: found {name!r}, expected one of {known}.")
    return IMAGE_LABEL_SOURCES[name]


def multi_hot(present: Iterable[int], num_classes: int, *, unknown: Iterable[int] = ()) -> np.ndarray:
    """Return (K,) float32: 1 for the classes that are present, ``UNKNOWN`` for other unknown ones, 0 for the rest.

    Raises:
        ValueError: a class is not in [0, K).
    """
    labels = np.zeros(num_classes, np.float32)
    for classes, value in ((unknown, UNKNOWN), (present, 1.0)):
        for index in classes:
            if not 0 <= index < num_classes:
                raise ValueError(f"found the class {int(index)}, expected 0 to {num_classes - 1}")
            labels[int(index)] = value
    return labels


def crowd_class(annotation: Mapping[str, Any]) -> int | None:
    """The class that a crowd (``iscrowd``) makes unknown; None of one of no class (``class_agnostic``)."""
    return None if annotation.get("class_agnostic") else int(annotation["category_id"])


def annotation_classes(annotations: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """Return the classes of the objects, and those of the crowds, of an image as it is stored."""
    objects = [int(annotation["category_id"]) for annotation in annotations if not annotation.get("iscrowd", 0)]
    crowds = [crowd_class(annotation) for annotation in annotations if annotation.get("iscrowd", 0)]
    return objects, [index for index in crowds if index is not None]
