"""All checks of one image: its file, its label files, its annotations."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mtl_d2.structures import edge_files

from ..faults import Fault, Problem
from ..schema import DatasetSchema
from ..validate import label_key_problems
from .files import ImageFacts, check_edges, check_image, check_semantic
from .geometry import all_annotation_problems


@dataclass(frozen=True)
class RecordReport:
    """What was found about one image.

    Attributes:
        faults: of its files and annotations.
        image: None where the file cannot be read.
        semantic: (256,) pixels by id; None without a readable semantic label.
    """

    faults: list[Fault]
    image: ImageFacts | None
    semantic: np.ndarray | None


def check_record(record: dict, schema: DatasetSchema, json_file: str = "") -> RecordReport:
    """Check everything that a record names.

    Args:
        record: of Detectron2's form; one without a ``file_name`` or a size is checked as far as that goes.
        schema: of the dataset.
        json_file: where the annotations stand, for the faults' place; their ``id`` names them.
    """
    name = str(record.get("file_name", record.get("image_id")))
    faults = [Fault.at(p, json_file or name, _item(record)) for p in label_key_problems(record, schema)]
    image, semantic = None, None
    if "file_name" in record:
        problems, image = check_image(record)
        faults += [Fault.at(problem, name) for problem in problems]
        if image is not None and "height" not in record:
            record = {**record, "height": image.height, "width": image.width}
    if "sem_seg_file_name" in record:
        problems, semantic = check_semantic(record, schema)
        faults += [Fault.at(problem, record["sem_seg_file_name"]) for problem in problems]
    if "edge_file_name" in record:
        for path in edge_files(record):
            faults += [Fault.at(problem, path) for problem in check_edges({**record, "edge_file_name": path})]
    if "height" in record:
        faults += _annotation_faults(record, schema, json_file)
    return RecordReport(faults, image, semantic)


def _annotation_faults(record: dict, schema: DatasetSchema, json_file: str) -> Iterator[Fault]:
    size = record["height"], record["width"]
    annotations = record.get("annotations", [])
    for number, annotation in enumerate(annotations):
        for problem in all_annotation_problems(annotation, size, len(schema.thing_classes)):
            if problem.kind == "category" and annotation.get("category_is_checked"):
                continue
            item = f"annotation {annotation.get('id', number)!r} of {_item(record)}"
            yield Fault.at(problem, json_file or str(record.get("file_name")), item)
    without = [a.get("id", n) for n, a in enumerate(annotations) if "segmentation" not in a]
    if without and (len(without) < len(annotations) or record.get("edge_source") in ("instance", "union")):
        found = f"{len(without)} of {len(annotations)} annotations without a mask, the first is {without[0]!r}"
        fix = "add the masks: without all of them no mask of the image is used, and edges cannot be derived"
        needed = record.get("edge_source") in ("instance", "union")
        problem = Problem("mask_missing", "segmentation", found, "all or none", fix, is_warning=not needed)
        yield Fault.at(problem, json_file or str(record.get("file_name")), _item(record))


def _item(record: dict) -> str:
    return f"image {record.get('image_id')!r}"
