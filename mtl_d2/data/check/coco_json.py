"""A COCO json read so that one broken entry does not hide the others."""

import json
import os
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from detectron2.structures import BoxMode

from ..annotations import category_problems, shorten
from ..datasets.coco_format import annotators_paths, label_path
from ..description_keys import is_inside, relative_name
from ..edge_label import EDGE_LABELS
from ..faults import Fault, Problem
from ..validate import image_problems

_SECTIONS = ("images", "annotations", "categories")


class CocoFile:
    """Records of a COCO instances json as far as they can be understood, and what is wrong with its entries.

    Args:
        json_file: the file.
        image_root: folder of the images. A path that leaves it is never opened.

    Attributes:
        content: the json, {} where it is none; entries of another type than expected are still in it.
        records: dataset dicts; the annotations keep the json's ``id``, and their ``category_id`` is contiguous among
            the json's own, or None, with ``category_is_checked``. A broken ``file_name`` or size is left out.
        faults: of the json's structure. Boxes and masks are left to ``check_record``.
        class_names: of the categories by ascending id.
    """

    def __init__(self, json_file: str | os.PathLike, image_root: str | os.PathLike) -> None:
        self.json_file, self.image_root = str(json_file), str(image_root)
        self.faults: list[Fault] = []
        self.content = self._read()
        self.records: list[dict] = []
        self.class_names: list[str] = []
        if not self.faults:
            contiguous = self._read_categories()
            by_image = self._read_images()
            self._read_annotations(by_image, contiguous)

    def _report(self, item: str, *problem: str) -> None:
        self.faults.append(Fault.at(Problem(*problem), self.json_file, item))  # type: ignore[arg-type]

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.json_file, encoding="utf-8") as file:
                content = json.load(file)
        except (OSError, ValueError, RecursionError) as error:
            self._report("", "json", "json_file", f"cannot be read as json ({error})", "", "restore the file")
            return {}
        for key in _SECTIONS:
            found = content.get(key) if isinstance(content, dict) else None
            if not isinstance(found, list):
                expected = "COCO's lists 'images', 'annotations' and 'categories'"
                self._report("json", "json", key, shorten(found), expected, "correct the file")
        if not self.faults and not content["images"]:
            self._report("json", "json", "images", "no image", "one or more", "correct the file")
        return content if isinstance(content, dict) else {}

    def _entries(self, section: str) -> Iterator[tuple[str, dict, Hashable]]:
        """Place, entry and id of all entries of a section that have a usable id that none before them has."""
        seen: set[Hashable] = set()
        noun = {"images": "image", "annotations": "annotation", "categories": "category"}[section]
        for number, entry in enumerate(self.content[section]):
            place = f"{section}[{number}]"
            if not isinstance(entry, dict):
                self._report(place, "entry", section, shorten(entry), "an object", "remove it")
                continue
            id_ = entry.get("id")
            kinds = int if section == "categories" else int | str
            if not isinstance(id_, kinds) or isinstance(id_, bool):
                self._report(place, f"{noun}_id", "id", shorten(id_), "an integer", "number the entries")
                continue
            if id_ in seen:
                found = f"{id_!r} twice, at {place} the second time"
                self._report(
                    f"{noun} {id_!r}", f"{noun}_id_twice", "id", found, "unique ids", f"renumber the {section}"
                )
                if section == "categories":
                    continue
            seen.add(id_)
            yield f"{noun} {id_!r}", entry, id_

    def _read_categories(self) -> dict[Hashable, int]:
        names: dict[Any, str] = {}
        for place, entry, id_ in self._entries("categories"):
            name = entry.get("name")
            if not isinstance(name, str) or not name or name in names.values():
                self._report(place, "category_name", "name", shorten(name), "a name that no other has", "correct it")
                name = f"category {id_}"
            names[id_] = name
        self.class_names = [names[id_] for id_ in sorted(names)]
        return {id_: index for index, id_ in enumerate(sorted(names))}

    def _read_images(self) -> dict[Hashable, dict]:
        by_id: dict[Hashable, dict] = {}
        owners: dict[str, str] = {}
        for place, entry, id_ in self._entries("images"):
            record = {"image_id": id_, "annotations": []}
            for problem in image_problems({**entry, "image_id": id_}):
                self.faults.append(Fault.at(problem, self.json_file, place))
            size = entry.get("height"), entry.get("width")
            if all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in size):
                record["height"], record["width"] = size
            name = entry.get("file_name")
            if isinstance(name, str) and self._is_inside(name, place):
                record["file_name"] = path = os.path.join(self.image_root, relative_name(name, self.image_root))
                if owners.setdefault(path, place) != place:
                    found = f"{name!r}, which {owners[path]} has too"
                    self._report(place, "image_twice", "file_name", found, "one entry a file", "merge the entries")
            self.records.append(record)
            by_id.setdefault(id_, record)
        return by_id

    def _is_inside(self, name: str, place: str) -> bool:
        if "\0" not in name and is_inside(os.path.join(self.image_root, name), self.image_root):
            return True
        expected = f"a file inside {self.image_root}"
        self._report(place, "path_outside", "file_name", repr(name), expected, "correct the entry")
        return False

    def _read_annotations(self, by_image: dict[Hashable, dict], contiguous: dict[Hashable, int]) -> None:
        for place, entry, _ in self._entries("annotations"):
            category = entry.get("category_id")
            unknown = list(category_problems(category, contiguous))
            self.faults += [Fault.at(problem, self.json_file, place) for problem in unknown]
            if entry.get("ignore", 0):
                self._report(
                    place, "ignore", "ignore", shorten(entry["ignore"]), "0", "mark it by iscrowd, or remove it"
                )
            image_id = entry.get("image_id")
            record = by_image.get(image_id) if isinstance(image_id, Hashable) else None
            if record is None:
                expected = "the id of an entry of 'images'"
                fix = "remove the annotation, or add the image"
                self._report(place, "annotation_image", "image_id", shorten(image_id), expected, fix)
                continue
            annotation = {key: entry[key] for key in ("id", "bbox", "iscrowd", "keypoints") if key in entry}
            annotation["bbox_mode"] = BoxMode.XYWH_ABS
            annotation["category_id"] = None if unknown else contiguous[category]
            annotation["category_is_checked"] = True
            if entry.get("segmentation"):
                annotation["segmentation"] = entry["segmentation"]
            record["annotations"].append(annotation)

    def add_labels(self, folders: Mapping[str, str], edge_source: str, *, partial: bool) -> None:
        """Name the label files as the loaders do.

        Args:
            folders: record key -> folder of PNGs named as the images.
            edge_source: set where an image has the labels for it.
            partial: an image without a file is unlabelled.
        """
        for record in self.records:
            if "file_name" not in record:
                continue
            name = os.path.relpath(record["file_name"], self.image_root)
            for key, folder in folders.items():
                label = label_path(folder, name)
                drawn = annotators_paths(label) if key == "edge_file_name" else []
                if drawn or not partial or os.path.isfile(label):
                    record[key] = drawn or label
            needed = EDGE_LABELS.get(edge_source, ("no such label",))
            has_masks = "annotations" not in needed or all("segmentation" in a for a in record["annotations"])
            if has_masks and all(key in record for key in needed):
                record["edge_source"] = edge_source
