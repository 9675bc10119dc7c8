"""What a converter says about one split of a dataset, and what it reads of each image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy import ndarray

from mtl_d2.data.schema import DatasetSchema


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        image_id: unique within the split.
        file_name: relative to the folder of the split's images.
        source: where the labels are; only the split's ``read`` looks at it. It goes to other processes.
    """

    image_id: int
    file_name: str
    source: Any


@dataclass(frozen=True)
class Labels:
    """The labels of one image; None is unlabelled, empty is labelled with nothing.

    Attributes:
        size: height and width of the labels in pixels.
        annotations: COCO's ``category_id``, ``iscrowd``, ``bbox``, ``area`` and ``segmentation``, without ids.
        sem_seg: (H, W) uint8, a class id per pixel, 255 for void.
        edges: one (H, W) array per annotator, nonzero at edges.
    """

    size: tuple[int, int]
    annotations: list[dict[str, Any]] | None = None
    sem_seg: ndarray | None = None
    edges: Sequence[ndarray] | None = None


@dataclass(frozen=True)
class Split:
    """One split to convert.

    Attributes:
        name: such as "train"; the written files are called after it.
        images: folder of the images.
        items: the images, in the order in which they are written.
        read: an item's labels; called in other processes, so it is a module's function or a partial of one.
        things: names by category id of the instances json; empty without instances.
        classes: names by semantic id; empty without semantics.
        stuff: which of ``classes`` are stuff in the panoptic map.
        edge_source: from what edges are derived, as in DatasetSchema; "none" where ``read`` gives edges.
        max_dets: detections per image that COCO AP takes into account.
    """

    name: str
    images: str
    items: Sequence[Item]
    read: Callable[[Item], Labels]
    things: Mapping[int, str]
    classes: Sequence[str] = ()
    stuff: Sequence[str] = ()
    edge_source: str = "none"
    max_dets: int = 100

    def schema(self) -> DatasetSchema:
        """The schema of what will be written.

        Raises:
            DatasetError: names are not unique, or there are more classes than an 8-bit PNG holds.
        """
        return DatasetSchema(
            thing_classes=[self.things[i] for i in sorted(self.things)],
            stuff_classes=self.classes,
            stuff_ids=[i for i, name in enumerate(self.classes) if name in self.stuff],
            edge_source=self.edge_source,
            max_dets=self.max_dets,
        )
