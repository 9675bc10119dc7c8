"""How many objects and pixels the labels of a training set have of each class, and the class weights that follow."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.utils import comm
from tqdm import tqdm

from ..structures.image_labels import IMAGE_LABEL_SOURCES, annotation_classes, multi_hot
from .images import BrokenSampleError
from .label_maps import read_sem_seg
from .labels import is_labelled

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]
_THREADS = 8  # the work is waiting for a disk


@dataclass(frozen=True)
class ClassCounts:
    """Of K classes, in the images that are labelled for them; crowds and void are left out.

    Attributes:
        samples: (K,) objects or pixels of the class.
        images: (K,) images that have it.
        beside: (K,) objects or pixels of all classes in these images.
    """

    samples: np.ndarray
    images: np.ndarray
    beside: np.ndarray

    @classmethod
    def of(cls, by_image: Iterable[np.ndarray], num_classes: int) -> "ClassCounts":
        """From the counts of each image, (K or more,)."""
        total = np.zeros((3, num_classes), np.int64)
        for found in by_image:
            counts = found[:num_classes]
            present = counts > 0
            total += np.stack([counts, present, present * counts.sum()])
        return cls(*total)


def count_objects(records: Iterable[Record], num_classes: int) -> ClassCounts:
    """Count the objects of each thing class."""
    ids = (thing_ids(record) for record in records)
    return ClassCounts.of((np.bincount(i, minlength=num_classes) for i in ids if i), num_classes)


def count_pixels(records: Sequence[Record], num_classes: int, ignore_value: int) -> ClassCounts:
    """Count the pixels of each semantic class; the ranks share the reading of the files, and all have to call."""
    own = own_semantic_pixels(records, ignore_value)
    counts = ClassCounts.of((pixels for pixels in own if pixels is not None), num_classes)
    parts = comm.all_gather(np.stack([counts.samples, counts.images, counts.beside]))
    return ClassCounts(*np.sum(parts, axis=0))


def count_image_labels(
    records: Sequence[Record], num_classes: int, source: str, ignore_value: int = 255
) -> ClassCounts:
    """Count the images that have each class, beside all that are labelled; all ranks have to call.

    Args:
        source: of the labels, a key of ``IMAGE_LABEL_SOURCES``.
    """
    key = IMAGE_LABEL_SOURCES[source].record_key
    labelled = [record for record in records if record.get(key) is not None]
    if source == "sem_seg":
        images = count_pixels(labelled, num_classes, ignore_value).images
    else:
        classes = (annotation_classes(r[key])[0] if source == "instances" else r[key] for r in labelled)
        images = sum((multi_hot(ids, num_classes) for ids in classes), np.zeros(num_classes)).astype(np.int64)
    return ClassCounts(images, images, np.full_like(images, len(labelled)))


def thing_ids(record: Record) -> list[int] | None:
    """Return the class of each object that is not a crowd, None where the image is not labelled for instances."""
    if not is_labelled(record, "instance"):
        return None
    return [annotation["category_id"] for annotation in record["annotations"] if not annotation.get("iscrowd", 0)]


def own_semantic_pixels(records: Sequence[Record], ignore_value: int) -> Iterator[np.ndarray | None]:
    """Pixels by semantic id, (256,), of the images that are this rank's: records[rank], records[rank + ranks], ...

    None for an image without a semantic map; zeros for a file that cannot be read: the training replaces its image.
    """
    rank = comm.get_rank()
    mine = records[rank :: comm.get_world_size()]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda record: _semantic_pixels(record, ignore_value), mine)
        yield from tqdm(found, "Classes of the semantic maps", len(mine), unit="image", disable=True if rank else None)


def _semantic_pixels(record: Record, ignore_value: int) -> np.ndarray | None:
    if not is_labelled(record, "sem_seg"):
        return None
    try:
        counts = np.bincount(read_sem_seg(record, None, ignore_value).ravel(), minlength=256)
    except BrokenSampleError as error:
        logger.warning("%s", error)
        return np.zeros(256, np.int64)
    counts[ignore_value] = 0
    return counts


def class_weights(counts: ClassCounts, scheme: str, *, beta: float = 0.999, unit: str = "samples") -> np.ndarray:
    """Weights that grow as a class gets rare, with mean 1 over the classes that occur.

    A class that never occurs weighs as much as the largest of the others: it is no target of a loss, but where a class
    has an output of its own, as in a sigmoid, that is to stay trained.

    Args:
        counts: of the training set.
        scheme: a key of :data:`SCHEMES`. "inverse": 1 / n of n samples. "median": median(f) / f with f the share of a
            class among the samples of the images that have it ("Predicting Depth, Surface Normals and Semantic Labels",
            Eigen and Fergus 2015, section 4.3.2; SegNet, Badrinarayanan et al. 2017). "effective": (1 - beta) / (1 -
            beta^n) ("Class-Balanced Loss Based on Effective Number of Samples", Cui et al. 2019, equations 3 and 8).
        beta: of "effective", in [0, 1): 0 for equal weights, towards 1 for those of "inverse".
        unit: what n counts in "effective": "samples", or "images". For pixels, images is our reading: the pixels of
            one image are near copies of each other, and beta^n is 0 for any number of pixels.

    Returns:
        (K,) float64, >= 0.

    Raises:
        ValueError: unknown ``scheme``, ``beta`` out of its range, or no sample of any class.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"found {scheme!r}, expected a number for each class or one of {', '.join(SCHEMES)}")
    if not 0 <= beta < 1:
        raise ValueError(f"MODEL.MTL.CLASS_WEIGHTS_BETA: found {beta}, expected a number in [0, 1)")
    occurs = counts.samples > 0
    if not occurs.any():
        raise ValueError(f"found {scheme!r}, but DATASETS.TRAIN has no label of any class to count")
    present = ClassCounts(counts.samples[occurs], counts.images[occurs], counts.beside[occurs])
    found = SCHEMES[scheme](present, beta, unit)
    found = found / found.mean()
    weights = np.full(len(occurs), found.max())
    weights[occurs] = found
    return weights


def _inverse(counts: ClassCounts, beta: float, unit: str) -> np.ndarray:
    return 1 / counts.samples


def _median(counts: ClassCounts, beta: float, unit: str) -> np.ndarray:
    frequency = counts.samples / counts.beside
    return np.median(frequency) / frequency


def _effective(counts: ClassCounts, beta: float, unit: str) -> np.ndarray:
    return (1 - beta) / (1 - beta ** (counts.images if unit == "images" else counts.samples).astype(np.float64))


SCHEMES: dict[str, Callable[[ClassCounts, float, str], np.ndarray]] = {
    "inverse": _inverse,
    "median": _median,
    "effective": _effective,
}
