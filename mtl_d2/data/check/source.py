"""What is to be checked of a registered dataset: its records, and what its json says beyond them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ..annotations import shorten
from ..faults import Fault
from ..preflight import load_records
from ..schema import DatasetError, DatasetSchema
from ..validate import image_problems
from .coco_json import CocoFile
from .paths import DatasetPaths, dataset_paths


@dataclass
class Source:
    """A dataset as it is found.

    Attributes:
        name: in Detectron2's catalogs.
        schema: of the dataset.
        json_file: the COCO json of its instances; "" where it has none.
        records: dataset dicts to be checked; annotations are the json's, those that the loader drops included.
        loaded: dataset dicts that a training would read; None where the loader fails.
        faults: of the json's structure, of the records' keys and of the folders.
    """

    name: str
    schema: DatasetSchema
    json_file: str = ""
    records: list[dict] = field(default_factory=list)
    loaded: list[dict] | None = None
    faults: list[Fault] = field(default_factory=list)


def open_source(name: str) -> Source:
    """Read records and json of a registered dataset; no image is opened.

    Raises:
        DatasetError: the name is not registered, its schema is wrong, or it has no json and its loader fails.
    """
    if name not in DatasetCatalog.list():
        load_records(name)  # says which names are near
    paths = dataset_paths(MetadataCatalog.get(name))
    if paths.json_file and paths.image_root:
        source = _open_coco(name, paths)
    else:
        records = load_records(name)
        source = Source(name, DatasetSchema.from_metadata(MetadataCatalog.get(name)))
        source.records = source.loaded = list(_sound_records(records, source.faults))
    source.faults += _orphans(paths)
    if not source.records and not source.faults:
        raise DatasetError(f"dataset '{name}': found no images, expected at least one; check its json and folders.")
    return source


def _open_coco(name: str, paths: DatasetPaths) -> Source:
    reason = ""
    loaded = None
    try:
        loaded = load_records(name)
    except (DatasetError, RecursionError, AttributeError, OverflowError) as error:
        reason = str(error)
    # After loading, which is what fills in some datasets' classes.
    source = Source(name, DatasetSchema.from_metadata(MetadataCatalog.get(name)), paths.json_file, loaded=loaded)
    if not os.path.isdir(paths.image_root):
        source.faults.append(_loader_fault(paths.json_file, reason))
        return source
    coco = CocoFile(paths.json_file, paths.image_root)
    source.faults = list(coco.faults)
    if loaded is None:
        # Where the json is at fault, the loader says no more than that.
        if not coco.faults:
            source.faults.append(_loader_fault(paths.json_file, reason))
        coco.add_labels(paths.labels, source.schema.edge_source, partial=paths.description is not None)
        source.records = coco.records
    else:
        source.loaded = [_without(record, _broken_keys(record)) for record in loaded]
        source.records = _with_annotations(source.loaded, coco)
    return source


def _loader_fault(json_file: str, reason: str) -> Fault:
    found = "is refused by the loader of the dataset: " + reason.rstrip(".")
    return Fault(json_file, "", "loader", "json_file", found, "", "correct what it names")


def _with_annotations(loaded: list[dict], coco: CocoFile) -> list[dict]:
    """The loader's records with all annotations of the json: the loader drops some that are wrong."""
    by_id = {record["image_id"]: record["annotations"] for record in coco.records}
    return [
        {**record, "annotations": by_id.get(record.get("image_id"), record["annotations"])}
        if "annotations" in record
        else record
        for record in loaded
    ]


def _sound_records(records: list[dict], faults: list[Fault]) -> Iterator[dict]:
    """Records without the keys that are wrong; what is wrong with them is added to ``faults``."""
    seen: set = set()
    for index, record in enumerate(records):
        file, item = str(record.get("file_name", f"number {index}")), f"image {index}"
        faults += [Fault.at(problem, file, item) for problem in image_problems(record)]
        broken = _broken_keys(record)
        id_ = None if "image_id" in broken else record["image_id"]
        if id_ in seen:
            faults.append(
                Fault(file, item, "image_id_twice", "image_id", f"{id_!r} twice", "unique ids", "renumber the images")
            )
        seen |= {id_} - {None}
        annotations = record.get("annotations", [])
        if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
            found = shorten(annotations)
            faults.append(Fault(file, item, "entry", "annotations", found, "a list of dicts", "correct the loader"))
            broken.add("annotations")
        yield _without(record, broken)


def _broken_keys(record: dict) -> set[str]:
    fields = {problem.field for problem in image_problems(record)}
    return fields | ({"height", "width"} if fields & {"height", "width"} else set())


def _without(record: dict, keys: set[str]) -> dict:
    return {key: value for key, value in record.items() if key not in keys}


def _orphans(paths: DatasetPaths) -> Iterator[Fault]:
    """Label files that belong to no image file; those of images of other splits are no fault."""
    if not paths.labels or not os.path.isdir(paths.image_root):
        return
    stems = {path.with_suffix("") for path in _files(paths.image_root, tuple(Image.registered_extensions()))}
    for key, folder in paths.labels.items():
        for path in sorted(_files(folder, (".png",))):
            of_annotator = key == "edge_file_name" and path.parent in stems
            if path.with_suffix("") not in stems and not of_annotator:
                found = f"belongs to no image of {paths.image_root}"
                fix = "remove it, or give it the name of its image"
                yield Fault(os.path.join(folder, path), "", "label_orphan", key, found, "", fix)


def _files(folder: str, endings: tuple[str, ...]) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            if not name.startswith(".") and name.lower().endswith(endings):
                yield Path(os.path.relpath(os.path.join(parent, name), folder))
