"""What a dataset holds, in numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..annotations import box_corners, box_problems
from ..schema import DatasetSchema
from .record import RecordReport

QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


@dataclass(frozen=True)
class DatasetStatistics:
    """Counts and sizes of a dataset; objects that are crowds are counted alone, not measured.

    Attributes:
        labelled: number of images labelled for each task; "images" is all of them.
        image_sizes: (N, 2) width and height in pixels.
        boxes: (M, 2) width and height of the objects' boxes in pixels, zero sides left out.
        box_images: (M,) which image each box is in.
        box_image_sizes: (M, 2) width and height of that image in pixels.
        box_classes: (M,) contiguous class ids.
        instances_per_image: (L,) of the images labelled for instances, crowds left out.
        num_crowds: annotations with ``iscrowd``.
        semantic_pixels: (256,) pixels by semantic id.
        semantic_images: (256,) images by semantic id that is in them.
        image_label_images: (C,) images by image label that they have.
        schema: names of the classes, and the id of void.
    """

    labelled: dict[str, int]
    image_sizes: np.ndarray
    boxes: np.ndarray
    box_images: np.ndarray
    box_image_sizes: np.ndarray
    box_classes: np.ndarray
    instances_per_image: np.ndarray
    num_crowds: int
    semantic_pixels: np.ndarray
    semantic_images: np.ndarray
    image_label_images: np.ndarray
    schema: DatasetSchema

    @property
    def instances_per_class(self) -> np.ndarray:
        """(K,) objects by thing class."""
        return np.bincount(self.box_classes, minlength=len(self.schema.thing_classes))

    @property
    def images_per_class(self) -> np.ndarray:
        """(K,) images by thing class that is in them."""
        pairs = np.unique(np.stack([self.box_images, self.box_classes]), axis=1)
        return np.bincount(pairs[1], minlength=len(self.schema.thing_classes))

    @property
    def void_share(self) -> float:
        """Share of void among the labelled pixels."""
        return float(self.semantic_pixels[self.schema.ignore_label] / max(1, self.semantic_pixels.sum()))

    @property
    def crowd_share(self) -> float:
        """Share of crowds among the annotations."""
        return self.num_crowds / max(1, self.num_crowds + int(self.instances_per_image.sum()))

    def histograms(self) -> dict[str, np.ndarray | dict[str, int]]:
        """What charts show, by the name of the axis: values, or counts by name; what is empty is left out."""
        things, stuff = self.schema.thing_classes, self.schema.stuff_classes
        charts: dict[str, np.ndarray | dict[str, int]] = {
            "Images by sqrt(width x height), pixels": np.sqrt(self.image_sizes.prod(axis=1)),
            "Objects by sqrt(box area), pixels": np.sqrt(self.boxes.prod(axis=1)),
            "Objects by box width / height": self.boxes[:, 0] / self.boxes[:, 1],
            "Images by number of objects": self.instances_per_image,
            "Objects by class": dict(zip(things, self.instances_per_class.tolist(), strict=True)),
            "Images by label": dict(
                zip(self.schema.image_label_classes, self.image_label_images.tolist(), strict=True)
            ),
            "Pixels by semantic class": dict(zip(stuff, self.semantic_pixels.tolist(), strict=False)),
        }
        return {name: chart for name, chart in charts.items() if len(chart)}

    def to_dict(self) -> dict[str, Any]:
        """Counts, shares and quantiles, for json."""
        sides, images = self.boxes, self.image_sizes
        things, stuff = self.schema.thing_classes, self.schema.stuff_classes
        return {
            "labelled": self.labelled,
            "instances": int(self.instances_per_image.sum()),
            "crowd_share": self.crowd_share,
            "void_share": self.void_share,
            "quantiles": {
                "of": list(QUANTILES),
                "image_width": _quantiles(images[:, 0]),
                "image_height": _quantiles(images[:, 1]),
                "image_aspect": _quantiles(images[:, 0] / images[:, 1]),
                "box_size": _quantiles(np.sqrt(sides.prod(axis=1))),
                "box_aspect": _quantiles(sides[:, 0] / sides[:, 1]),
                "instances_per_image": _quantiles(self.instances_per_image),
            },
            "instances_per_class": dict(zip(things, self.instances_per_class.tolist(), strict=True)),
            "images_per_class": dict(zip(things, self.images_per_class.tolist(), strict=True)),
            "images_per_label": dict(
                zip(self.schema.image_label_classes, self.image_label_images.tolist(), strict=True)
            ),
            "semantic_pixels": dict(zip(stuff, self.semantic_pixels.tolist(), strict=False)),
            "semantic_images": dict(zip(stuff, self.semantic_images.tolist(), strict=False)),
        }


def gather_statistics(
    records: Sequence[dict], reports: Sequence[RecordReport], schema: DatasetSchema, *, loaded: list[dict] | None = None
) -> DatasetStatistics:
    """Measure what the checks have read.

    Args:
        records: that were checked.
        reports: of these records.
        schema: of the dataset.
        loaded: the records that a training reads, where there are such: their annotations are counted.
    """
    facts = [report.image for report in reports if report.image is not None]
    semantic = [report.semantic for report in reports if report.semantic is not None]
    counts = np.stack(semantic) if semantic else np.zeros((0, 256), np.int64)
    measured = records if loaded is None else loaded
    annotated = [r["annotations"] for r in measured if "annotations" in r]
    crowds = [sum(bool(a.get("iscrowd", 0)) for a in annotations) for annotations in annotated]
    table = _box_table(measured, len(schema.thing_classes))
    return DatasetStatistics(
        labelled=_count_labels(measured),
        image_sizes=np.array([(f.width, f.height) for f in facts], np.int64).reshape(-1, 2),
        boxes=table[:, 4:],
        box_images=table[:, 0].astype(np.int64),
        box_image_sizes=table[:, 2:4],
        box_classes=table[:, 1].astype(np.int64),
        instances_per_image=np.array([len(a) - n for a, n in zip(annotated, crowds, strict=True)], np.int64),
        num_crowds=sum(crowds),
        semantic_pixels=counts.sum(axis=0),
        semantic_images=(counts > 0).sum(axis=0),
        image_label_images=_image_label_images(measured, len(schema.image_label_classes)),
        schema=schema,
    )


def _box_table(records: Sequence[dict], num_classes: int) -> np.ndarray:
    """(M, 6): number of the image, class, width and height of the image, and of the box, of all boxes with an area."""
    rows = [
        (index, annotation["category_id"], record["width"], record["height"], *_sides(annotation))
        for index, record in enumerate(records)
        for annotation in record.get("annotations", ())
        if "height" in record and _is_object(annotation, num_classes)
    ]
    table = np.array(rows, np.float64).reshape(-1, 6)
    return table[(table[:, 4:] > 0).all(axis=1)]


def _count_labels(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    image_labels = sum("image_labels" in r for r in records)
    return {
        "images": len(records),
        "instance": sum("annotations" in r for r in records),
        "sem_seg": sum("sem_seg_file_name" in r for r in records),
        "edge": sum("edge_file_name" in r or r.get("edge_source", "none") != "none" for r in records),
        **({"classification": image_labels} if image_labels else {}),  # few datasets have them
    }


def _image_label_images(records: Sequence[Mapping[str, Any]], num_classes: int) -> np.ndarray:
    found = [i for r in records for i in set(r.get("image_labels", ())) if 0 <= i < num_classes]
    return np.bincount(np.array(found, np.int64), minlength=num_classes)


def _is_object(annotation: dict[str, Any], num_classes: int) -> bool:
    category = annotation.get("category_id")
    known = isinstance(category, int) and 0 <= category < num_classes
    return known and not annotation.get("iscrowd", 0) and not list(box_problems(annotation))


def _sides(annotation: dict[str, Any]) -> tuple[float, float]:
    x0, y0, x1, y1 = box_corners(annotation)
    return x1 - x0, y1 - y0


def _quantiles(values: np.ndarray) -> list[float]:
    return [round(float(v), 3) for v in np.quantile(values, QUANTILES)] if len(values) else []
