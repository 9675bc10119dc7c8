"""A dataset described by a small YAML file: which of the labels it has, and where they are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from .description_keys import Keys
from .schema import DatasetError

KEYS = (
    "name",
    "images",
    "split",
    "instances",
    "thing_classes",
    "semantic",
    "edges",
    "keypoints",
    "image_labels",
    "class_map",
    "max_dets",
)
EDGE_LABELS = {"instance": ("instances",), "semantic": ("semantic",), "union": ("instances", "semantic")}
ALL_IMAGES = "all"  # of the folder, as a split


@dataclass(frozen=True)
class Semantic:
    """Semantic PNGs.

    Attributes:
        folder: with ``<image name without its ending>.png``; an image without a file is unlabelled.
        classes: names by the id in the PNGs.
        run_classes: names by the id in the run; empty for ``classes`` as the class map renames them.
        stuff: names in the run that are stuff; None where it is not said.
        ignore_label: void in the PNGs.
    """

    folder: str
    classes: tuple[str, ...]
    run_classes: tuple[str, ...] = ()
    stuff: tuple[str, ...] | None = None
    ignore_label: int = 255


@dataclass(frozen=True)
class Edges:
    """Edges: derived from other labels ("instance", "semantic", "union"), or a folder with PNGs."""

    derive: str = "none"
    folder: str | None = None


@dataclass(frozen=True)
class Keypoints:
    """Names of the keypoints, in the json's order, and which swap in a mirror image: () none, None is not known."""

    names: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True)
class ImageLabels:
    """A json {image name: [class names]}; an image that it does not list is unlabelled."""

    file: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """A dataset, as ``parse_description`` reads it. All paths are absolute.

    Attributes:
        name: in Detectron2's catalogs.
        source: the file, or the call, for messages.
        images: folder of the images.
        split: file with the names of the images, "all" for all of the folder, None for those of ``instances`` or,
            without it, all of the folder.
        instances: COCO instances json.
        thing_classes: the run's names and their order; empty for the json's categories as the class map renames them.
        thing_map, semantic_map: {name in this dataset: name in the run, or None for ignored}.
        max_dets: COCO's limit of detections per image.
    """

    name: str
    source: str = field(compare=False)
    images: str = ""
    split: str | None = None
    instances: str | None = None
    thing_classes: tuple[str, ...] = ()
    semantic: Semantic | None = None
    edges: Edges = Edges()
    keypoints: Keypoints | None = None
    image_labels: ImageLabels | None = None
    thing_map: Mapping[str, str | None] = field(default_factory=dict)
    semantic_map: Mapping[str, str | None] = field(default_factory=dict)
    max_dets: int = 100


def read_description(path: str | os.PathLike, datasets_root: str | os.PathLike) -> Description:
    """Read a description; of the files that it names, none is opened.

    Args:
        path: of the YAML file. Paths in it are relative to its folder.
        datasets_root: what ``${DETECTRON2_DATASETS}`` at the beginning of a path stands for.

    Raises:
        DatasetError: there is no such file, it is no YAML, or a key is unknown, missing or has a bad value.
    """
    path = os.path.abspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}); correct the path, or write the file."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path}: is no YAML ({reason}), expected 'key: value' lines; correct the file.") from error
    stem = os.path.splitext(os.path.basename(path))[0]
    return parse_description(values, source=path, root=os.path.dirname(path), datasets_root=datasets_root, name=stem)


def parse_description(
    values: Any, *, source: str, root: str | os.PathLike, datasets_root: str | os.PathLike, name: str = ""
) -> Description:
    """Check the keys of a description; no file is read.

    Args:
        values: the keys and their values; README's "Your own data" has them all.
        source: what messages call the description.
        root: folder that relative paths start from.
        datasets_root: see :func:`read_description`.
        name: of the dataset where the keys do not say it.

    Raises:
        DatasetError: a key is unknown, missing or has a bad value.
    """
    folders = {"root": os.path.abspath(root), "datasets_root": os.path.abspath(datasets_root)}
    keys = Keys(values, KEYS, source=source, **folders)
    class_map = keys.section("class_map", ("things", "semantic")) if "class_map" in keys else None
    description = Description(
        name=_name(keys, name),
        source=source,
        images=keys.path("images", "the folder of the images"),
        split=_split(keys),
        instances=keys.path("instances", "a COCO instances json") if "instances" in keys else None,
        thing_classes=keys.names("thing_classes", "names") if "thing_classes" in keys else (),
        semantic=_semantic(keys) if "semantic" in keys else None,
        edges=_edges(keys) if "edges" in keys else Edges(),
        keypoints=_keypoints(keys) if "keypoints" in keys else None,
        image_labels=_image_labels(keys) if "image_labels" in keys else None,
        thing_map=class_map.renames("things") if class_map else {},
        semantic_map=class_map.renames("semantic") if class_map else {},
        max_dets=keys.integer("max_dets", 100),
    )
    _check_together(keys, description)
    return description


def _split(keys: Keys) -> str | None:
    if keys.values.get("split") in (None, ALL_IMAGES):
        return keys.values.get("split")
    return keys.path("split", f"a text file with names of images, or '{ALL_IMAGES}'")


def _semantic(keys: Keys) -> Semantic:
    section = keys.section("semantic", ("folder", "classes", "run_classes", "stuff", "ignore_label"))
    stuff: tuple[str, ...] | None = None
    if section.values.get("stuff") == []:  # every class stands for things
        stuff = ()
    elif "stuff" in section:
        stuff = section.names("stuff", "names of classes")
    return Semantic(
        folder=section.path("folder", "a folder of PNGs"),
        classes=section.names("classes", "names by the id in the PNGs"),
        run_classes=section.names("run_classes", "names by the id in the run") if "run_classes" in section else (),
        stuff=stuff,
        ignore_label=section.integer("ignore_label", 255),
    )


def _edges(keys: Keys) -> Edges:
    section = keys.section("edges", ("derive", "folder"))
    if len(section.values) != 1:
        raise keys.error("edges", section.values, "either 'derive' or 'folder'", "keep one of them")
    if "folder" in section:
        return Edges(folder=section.path("folder", "a folder of PNGs"))
    derive = section.choice("derive", tuple(EDGE_LABELS))
    for needed in EDGE_LABELS[derive]:
        if needed not in keys:
            raise section.error("derive", derive, f"the key '{needed}', from which edges are derived", "add it")
    return Edges(derive=derive)


def _keypoints(keys: Keys) -> Keypoints:
    section = keys.section("keypoints", ("names", "flip_pairs"))
    names = section.names("names", "the names of the keypoints")
    pairs = section.values.get("flip_pairs")
    if pairs is None:
        return Keypoints(names)
    for pair in pairs if isinstance(pairs, list | tuple) else [pairs]:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(name in names for name in pair):
            raise section.error("flip_pairs", pair, f"pairs of {', '.join(names)}", "write [[left, right], ...]")
    return Keypoints(names, tuple((left, right) for left, right in pairs))


def _image_labels(keys: Keys) -> ImageLabels:
    section = keys.section("image_labels", ("file", "classes"))
    file = section.path("file", "a json with the class names of each image")
    return ImageLabels(file, section.names("classes", "the names of the classes"))


def _name(keys: Keys, default: str) -> str:
    """Folders and files are called after it: it leads to no other folder."""
    name = keys.text("name", "the dataset's name") if "name" in keys else default
    if name in (".", "..") or any(c in name for c in "/\\\0"):
        raise keys.error("name", name, "a name without slashes", "rename the dataset")
    return name


def _check_together(keys: Keys, description: Description) -> None:
    if not any(key in keys for key in ("instances", "semantic", "edges", "image_labels")):
        raise keys.missing("instances", "a label: instances, semantic, edges or image_labels")
    needs = {"thing_classes": "instances", "keypoints": "instances"}
    for key, needed in needs.items():
        if key in keys and needed not in keys:
            raise keys.error(key, keys.values[key], f"the key '{needed}' beside it", f"add {needed}, or remove {key}")
    for kind, renames, needed in (
        ("things", description.thing_map, "instances"),
        ("semantic", description.semantic_map, "semantic"),
    ):
        if renames and needed not in keys:
            raise keys.error(f"class_map.{kind}", dict(renames), f"the key '{needed}' beside it", f"remove {kind}")
    semantic = description.semantic
    if semantic is not None and semantic.stuff is None and description.instances is not None:
        raise keys.missing("semantic.stuff", "the names of the semantic classes that are stuff, [] if none is")
