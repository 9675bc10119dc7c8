"""A corrected copy of a dataset: what can be corrected without a guess is, the rest stays and is said."""

import functools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from detectron2.data import MetadataCatalog
from PIL import Image

from mtl_d2.structures import edge_files

from ..datasets.register_description import register_description
from ..description_keys import relative_name
from ..schema import DatasetError
from .coco_json import CocoFile
from .dataset import DatasetReport
from .fix_description import copied_keys, described_keys, schema_keys
from .fix_json import fix_annotation, labels_fit, renumber
from .paths import DatasetPaths, dataset_paths
from .record import RecordReport

_LABEL_FOLDERS = {"sem_seg_file_name": "semantic", "edge_file_name": "edges"}


@dataclass(frozen=True)
class FixReport:
    """What was done.

    Attributes:
        name: under which the copy is registered: the dataset's with "_fixed".
        done: how often each correction was made.
        description: the YAML file that describes the copy.
    """

    name: str
    done: Counter[str]
    description: Path


def require_new_folder(folder: Path) -> None:
    """Raise DatasetError where a folder is there and not empty: nothing is corrected in place."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"{folder}: exists and is not empty, expected a new folder for the copy; name another.")


def fix_dataset(report: DatasetReport, folder: Path, *, copy: bool = False) -> FixReport:
    """Write a corrected copy of a dataset that has a COCO json: the json, and its images and labels.

    Args:
        report: of ``check_dataset``.
        folder: new or empty; gets instances.json, images/, semantic/ or edges/, and NAME.yaml.
        copy: the files themselves; otherwise links to those that need no correction.

    Raises:
        DatasetError: the folder is not empty, or the dataset has no json that can be read.
    """
    require_new_folder(folder)
    paths = dataset_paths(MetadataCatalog.get(report.name))
    if not paths.json_file or not paths.image_root:
        raise DatasetError(f"dataset '{report.name}': it has no COCO json, only datasets that have one can be fixed.")
    keys = described_keys(paths.description) if paths.description is not None else None
    coco = CocoFile(paths.json_file, paths.image_root)
    if not isinstance(coco.content.get("images"), list) or not isinstance(coco.content.get("annotations"), list):
        raise DatasetError(f"{paths.json_file}: cannot be fixed: it is no COCO json; restore the file.")
    done: Counter[str] = Counter()
    place = shutil.copyfile if copy else _link
    kept = _fix_images(coco, _records_by_file(coco, report, paths), done)
    _fix_annotations(coco, done)
    if keys is not None:
        kept += _unlisted(report, kept)
    for checked in kept:
        _place_files(checked, paths, folder, place=place, done=done)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instances.json").write_text(json.dumps(coco.content))
    done["left out label files without an image"] = sum(f.kind == "label_orphan" for f in report.faults)
    name = f"{report.name}_fixed"
    description = folder / f"{name}.yaml"
    if keys is None:
        keys = schema_keys(report.schema, has_semantic=(folder / "semantic").is_dir())
    else:
        removed = {c.record["file_name"] for c in _checked(report) if not c.is_readable}
        keys = copied_keys(keys, paths.description, folder, removed)
    description.write_text(yaml.safe_dump({"name": name, **keys}, sort_keys=False))
    register_description(description, replace=True)
    return FixReport(name, +done, description)


_Place = Callable[[str, Path], Any]  # puts a file at a path


class _Checked(NamedTuple):
    record: dict
    report: RecordReport

    @property
    def is_readable(self) -> bool:
        kinds = {f.kind for f in self.report.faults if f.file == self.record["file_name"]}
        return not kinds & {"missing", "unreadable"}


def _records_by_file(coco: CocoFile, report: DatasetReport, paths: DatasetPaths) -> dict[str, _Checked]:
    """What was checked of each image file of the json; of one that the loader left out, nothing was."""
    coco.add_labels(paths.labels, "none", partial=True)
    unchecked = RecordReport([], None, None)
    found = {record["file_name"]: _Checked(record, unchecked) for record in coco.records if "file_name" in record}
    return found | {checked.record["file_name"]: checked for checked in _checked(report)}


def _checked(report: DatasetReport) -> list[_Checked]:
    pairs = zip(report.records, report.record_reports, strict=True)
    return [_Checked(record, checked) for record, checked in pairs if "file_name" in record]


def _unlisted(report: DatasetReport, kept: list[_Checked]) -> list[_Checked]:
    """Readable images of a described dataset that its json does not list."""
    listed = {checked.record["file_name"] for checked in kept}
    return [c for c in _checked(report) if c.is_readable and c.record["file_name"] not in listed]


def _fix_images(coco: CocoFile, by_file: Mapping[str, _Checked], done: Counter[str]) -> list[_Checked]:
    """Correct 'images'; returns what was checked of those that are kept."""
    by_image: dict[Any, list[dict]] = {}
    for entry in _dicts(coco.content["annotations"]):
        by_image.setdefault(_key(entry.get("image_id")), []).append(entry)
    entries, kept = [], []
    for entry in coco.content["images"]:
        name = entry.get("file_name") if isinstance(entry, dict) else None
        name = relative_name(name, coco.image_root) if isinstance(name, str) else None
        found = by_file.get(os.path.join(coco.image_root, name)) if name is not None else None
        if found is None or not found.is_readable:
            done["removed images whose file cannot be read"] += 1
            continue
        entry["file_name"] = name  # an absolute one would lead back to the original
        image = found.report.image
        if image is not None and (entry.get("height"), entry.get("width")) != (image.height, image.width):
            size = image.height, image.width
            if _agree(found.record, by_image.get(_key(entry.get("id")), []), size):
                entry["height"], entry["width"] = size
                done["took sizes of images from their files"] += 1
        kept.append(found)
        entries.append(entry)
    coco.content["images"] = entries
    return kept


def _agree(record: dict, annotations: list[dict[str, Any]], size: tuple[int, int]) -> bool:
    """Whether all labels of an image have the size of its file."""
    for key in _LABEL_FOLDERS:
        if any(os.path.isfile(path) and _label_size(path) != size for path in _label_files(record, key)):
            return False
    return labels_fit(annotations, size)


def _label_files(record: dict, key: str) -> list[str]:
    """None, one, or one of each annotator."""
    if key not in record:
        return []
    return edge_files(record) if key == "edge_file_name" else [record[key]]


def _label_size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as label:
            return label.height, label.width
    except (OSError, ValueError):
        return None


def _fix_annotations(coco: CocoFile, done: Counter[str]) -> None:
    images = {_key(entry.get("id")): entry for entry in coco.content["images"]}
    known = {_key(record["image_id"]) for record in coco.records}
    entries = []
    for entry in coco.content["annotations"]:
        image = images.get(_key(entry.get("image_id"))) if isinstance(entry, dict) else None
        if image is None:
            if isinstance(entry, dict) and _key(entry.get("image_id")) in known:
                done["removed annotations of images that were removed"] += 1
            else:
                entries.append(entry)  # of no image at all: no safe guess
            continue
        size = image.get("height"), image.get("width")
        what = fix_annotation(entry, size) if all(isinstance(v, int) and v > 0 for v in size) else ""
        done[what] += 1
        if not what.startswith("removed"):
            entries.append(entry)
    del done[""]
    renumber(entries, done)
    coco.content["annotations"] = entries


def _place_files(checked: _Checked, paths: DatasetPaths, folder: Path, *, place: _Place, done: Counter[str]) -> None:
    record, seen = checked
    _put(record["file_name"], paths.image_root, folder / "images", place)
    for key, name in _LABEL_FOLDERS.items():
        root = paths.labels.get(key, "")
        for path in _label_files(record, key) if root else []:
            if os.path.isfile(path):
                _place_label(path, root, folder / name, place=place, seen=seen, done=done)
            else:
                done["left images unlabelled whose label file is missing"] += 1


def _place_label(path: str, root: str, folder: Path, *, place: _Place, seen: RecordReport, done: Counter[str]) -> None:
    kinds = {fault.kind for fault in seen.faults if fault.file == path}
    ids = _eight_bits(path) if kinds & {"label_png", "label_palette"} else None
    if ids is None:
        _put(path, root, folder, place)
    else:
        _put(path, root, folder, functools.partial(_save, ids))
        done["rewrote labels of 16 bits or with a palette as 8-bit ids"] += 1


def _put(path: str, root: str, folder: Path, place: _Place) -> None:
    target = folder / os.path.relpath(path, root)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        place(path, target)


def _save(ids: np.ndarray, path: str, target: Path) -> None:
    Image.fromarray(ids).save(target)


def _link(path: str, target: Path) -> None:
    target.symlink_to(os.path.abspath(path))


def _eight_bits(path: str) -> np.ndarray | None:
    """The ids of a label with a palette or of 16 bits, uint8; None where they do not fit, or it is of colours."""
    try:
        with Image.open(path) as image:
            ids = np.asarray(image)
    except (OSError, ValueError, SyntaxError):
        return None
    if (
        ids.ndim != 2
        or ids.dtype == bool
        or (image.mode not in ("P", "I", "I;16", "I;16B"))
        or ids.max(initial=0) > 255
    ):
        return None
    return ids.astype(np.uint8)


def _dicts(entries: list[Any]) -> Iterator[dict[str, Any]]:
    return (entry for entry in entries if isinstance(entry, dict))


def _key(value: Any) -> Any:
    """An id as a key of a dict; what no id can be is None."""
    return value if isinstance(value, int | str) else None
