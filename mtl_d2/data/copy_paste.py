"""Objects of one image of the training set pasted into another, with all their labels.

Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, CVPR 2021,
section 3.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MetadataCatalog

from .images import BrokenSampleError
from .labelled_image import LabelledImage
from .mapper import MultiTaskDatasetMapper
from .paste import paste_objects, whole_objects
from .targets import has_masks

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Mapper = Callable[[Record], dict[str, Any]]


class CopyPasteMapper:
    """A training mapper that pastes objects of another record into some of the images.

    Both images are augmented, each with draws of its own, before the objects are moved: with the large-scale
    jitter this is the paper's scheme. A source of another size lies over the image at a random offset that makes
    them overlap as much as they can. Draws come from numpy's global generator.

    An image takes part with the labels that it has: absent ones stay absent. Nothing is pasted into one whose
    objects have boxes without masks, and no object without a semantic id into one with a semantic map. Objects that
    the border of the source cuts are pasted only where that border lies on the image's.

    Args:
        mapper: reads, augments and makes the targets.
        records: of the training set; those with masks of objects are the sources.
        prob: chance that an image gets objects.
        max_objects: their number is drawn from 1 to this.
        blend_sigma: of the blending at their borders, in pixels, see :func:`paste_objects`.
        semantic_ids: the semantic id of each instance class; None where the source's own semantic map has to say.

    Raises:
        ValueError: no record has masks of objects, or the mapper makes targets that cannot be pasted.
    """

    def __init__(
        self,
        mapper: MultiTaskDatasetMapper,
        records: Sequence[Record],
        *,
        prob: float,
        max_objects: int,
        blend_sigma: float = 0.0,
        semantic_ids: Sequence[int | None] = (),
    ) -> None:
        self.mapper = mapper
        self.prob = prob
        self.max_objects = max_objects
        self.blend_sigma = blend_sigma
        self.semantic_ids = tuple(semantic_ids)
        sources = [record for record in records if _is_source(record)]
        if not sources:
            raise ValueError(
                "INPUT.MTL.COPY_PASTE.PROB: found no image with masks of objects to copy; set it to 0, or add a "
                "'segmentation' to the annotations of DATASETS.TRAIN."
            )
        self.sources = DatasetFromList(sources, copy=False)  # which workers share
        if mapper.image_labels == "given":
            raise ValueError(
                "INPUT.MTL.COPY_PASTE.PROB: image labels that are given (INPUT.MTL.IMAGE_LABELS) do not say which of "
                "them a pasted object brings; set it to 0, derive them from 'instances' or 'sem_seg', or leave the "
                "task classification out."
            )
        if "keypoint" in mapper.tasks:
            raise ValueError(
                "INPUT.MTL.COPY_PASTE.PROB: MODEL.MTL.TASKS has 'keypoint', and keypoints are not pasted; set it to 0, "
                "or leave that task out."
            )
        if mapper.extra_targets:
            raise ValueError(
                "INPUT.MTL.COPY_PASTE.PROB: a task of MODEL.MTL.TASKS makes labels of its own, which cannot be pasted; "
                "set it to 0, or leave that task out."
            )

    def __call__(self, record: Record) -> dict[str, Any]:
        """See :meth:`MultiTaskDatasetMapper.__call__`."""
        if np.random.uniform() >= self.prob or not self._can_change(record):  # noqa: NPY002
            return self.mapper(record)
        target = self.mapper.read(record, with_masks=True)
        source = self._read_source()
        if source is not None:
            offset = _random_offset(source.size, target.size)
            chosen = self._choose(source, target, offset)
            if chosen:
                target = paste_objects(
                    target, source, chosen, offset, semantic_ids=self.semantic_ids, blend_sigma=self.blend_sigma
                )
        return self.mapper.targets(target)

    def _can_change(self, record: Record) -> bool:
        """Whether the objects that the tasks read have the masks that occlusion needs."""
        return not self.mapper.read.reads_objects or has_masks(record.get("annotations", ()))

    def _read_source(self) -> LabelledImage | None:
        record = self.sources[np.random.randint(len(self.sources))]  # noqa: NPY002
        try:
            return self.mapper.read(record, with_masks=True)
        except BrokenSampleError as error:  # of the source: the image itself can be used
            logger.warning("Pasted nothing: %s", error)
            return None

    def _choose(self, source: LabelledImage, target: LabelledImage, offset: tuple[int, int]) -> list[int]:
        """Draw the objects to paste, of those that are whole there and have the labels that the target needs."""
        whole = whole_objects(source, target, offset) if source.masks else []
        if target.sem_seg is not None and source.sem_seg is None:
            whole = [i for i in whole if self._semantic_id(source, i) is not None]
        if not whole:
            return []
        count = np.random.randint(min(self.max_objects, len(whole))) + 1  # noqa: NPY002
        return np.random.choice(whole, count, replace=False).tolist()  # noqa: NPY002

    def _semantic_id(self, source: LabelledImage, index: int) -> int | None:
        return self.semantic_ids[source.objects[index]["category_id"]] if self.semantic_ids and source.objects else None


def with_copy_paste(cfg: CfgNode, mapper: Mapper, records: Sequence[Record]) -> Mapper:
    """Return the training mapper, wrapped in :class:`CopyPasteMapper` where INPUT.MTL.COPY_PASTE asks for it.

    Args:
        cfg: reads INPUT.MTL.COPY_PASTE and DATASETS.TRAIN, whose metadata say which semantic ids stand for things.
        mapper: a MultiTaskDatasetMapper, where it is wrapped.
        records: of the training set.

    Raises:
        ValueError: a key is out of its range, or nothing can be pasted.
    """
    keys = cfg.INPUT.MTL.COPY_PASTE
    if not 0 <= keys.PROB <= 1:
        raise ValueError(f"INPUT.MTL.COPY_PASTE.PROB: found {keys.PROB}, expected a probability, 0 for none.")
    if keys.PROB == 0:
        return mapper
    if keys.MAX_OBJECTS < 1 or keys.BLEND_SIGMA < 0:
        raise ValueError(
            f"INPUT.MTL.COPY_PASTE: found MAX_OBJECTS {keys.MAX_OBJECTS} and BLEND_SIGMA {keys.BLEND_SIGMA}, expected "
            "1 or more, and 0 (no blending) or more."
        )
    if not isinstance(mapper, MultiTaskDatasetMapper):
        raise ValueError(
            f"INPUT.MTL.COPY_PASTE.PROB: found a mapper of type {type(mapper).__name__}, expected a "
            "MultiTaskDatasetMapper; set it to 0."
        )
    return CopyPasteMapper(
        mapper,
        records,
        prob=keys.PROB,
        max_objects=keys.MAX_OBJECTS,
        blend_sigma=keys.BLEND_SIGMA,
        semantic_ids=semantic_ids_of_things(cfg.DATASETS.TRAIN),
    )


def semantic_ids_of_things(dataset_names: Sequence[str]) -> list[int | None]:
    """Return the semantic id of each instance class, [] where no dataset has instance or semantic classes.

    It is the semantic class of the same name that is no stuff; otherwise, where a single semantic id stands for all
    things, that one; otherwise None.

    Args:
        dataset_names: of registered datasets that agree on their classes.
    """
    things, stuff, stuff_ids = (
        _metadata(dataset_names, key) for key in ("thing_classes", "stuff_classes", "stuff_ids")
    )
    if things is None or stuff is None:
        return []
    thing_ids = [i for i in range(len(stuff)) if i not in set(stuff_ids or ())]
    by_name = {stuff[i]: i for i in thing_ids}
    shared = thing_ids[0] if len(thing_ids) == 1 else None
    return [by_name.get(name, shared) for name in things]


def _metadata(dataset_names: Sequence[str], key: str) -> Any:
    values = (MetadataCatalog.get(name).get(key) for name in dataset_names)
    return next((value for value in values if value is not None), None)


def _is_source(record: Record) -> bool:
    annotations = record.get("annotations", ())
    return has_masks(annotations) and any(not annotation.get("iscrowd", 0) for annotation in annotations)


def _random_offset(source: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Draw where the upper left corner of the source lies in the target, as (y, x) in pixels."""
    low, high = np.minimum(np.subtract(target, source), 0), np.maximum(np.subtract(target, source), 0)
    y, x = np.random.randint(low, high + 1)  # noqa: NPY002
    return int(y), int(x)
