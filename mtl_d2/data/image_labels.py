"""Labels of whole images as training targets, of the images as augmentation leaves them."""

import numpy as np

from ..structures.image_labels import crowd_class, image_label_source, multi_hot
from .images import BrokenSampleError
from .labelled_image import LabelledImage


def image_label_target(labelled: LabelledImage, source: str, num_classes: int, ignore_value: int) -> np.ndarray | None:
    """Return which classes an image has; None where it is unlabelled for the source.

    Derived labels follow the image: a class whose last object a crop loses is absent. A class of which there are only
    crowds is unknown. Void of a semantic map says nothing: a class that no labelled pixel has is absent (our reading).
    Given labels are of the whole image, whatever a crop leaves of it.

    Args:
        labelled: with what the source is made from.
        source: a key of ``IMAGE_LABEL_SOURCES``.
        num_classes: K.
        ignore_value: void in the semantic map.

    Returns:
        (K,) float32 in {1, 0, -1}; -1 is unknown.

    Raises:
        BrokenSampleError: a class is not in [0, K).
    """
    key = image_label_source(source).record_key
    present: list[int] | None
    unknown: list[int] = []
    if source == "given":
        present = labelled.record.get(key)
    elif source == "instances":
        present, unknown = _objects(labelled), _crowds(labelled)
    else:
        present = None if labelled.sem_seg is None else np.setdiff1d(labelled.sem_seg, [ignore_value]).tolist()
    if present is None:
        return None
    try:
        return multi_hot(present, num_classes, unknown=unknown)
    except ValueError as error:
        raise BrokenSampleError(
            f"{labelled.record['file_name']}: '{key}': {error}; correct it, or "
            "MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES."
        ) from error


def _objects(labelled: LabelledImage) -> list[int] | None:
    """The classes of the objects of which a box, and a mask where there are masks, is left."""
    if labelled.objects is None or labelled.boxes is None:
        return None
    left = _nonempty(labelled.boxes)
    if labelled.masks is not None:
        left &= np.array([bool(mask.pixels.any()) for mask in labelled.masks], bool)
    return [annotation["category_id"] for annotation, is_left in zip(labelled.objects, left, strict=True) if is_left]


def _crowds(labelled: LabelledImage) -> list[int]:
    if labelled.crowd_boxes is None:
        return []
    crowds = [annotation for annotation in labelled.record["annotations"] if annotation.get("iscrowd", 0)]
    found = (crowd_class(crowd) for crowd, left in zip(crowds, _nonempty(labelled.crowd_boxes), strict=True) if left)
    return [index for index in found if index is not None]


def _nonempty(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2] > 1e-5).all(axis=1)  # as instance_target drops objects
