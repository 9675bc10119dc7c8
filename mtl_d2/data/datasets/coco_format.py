"""Records from a COCO instances json, an image folder and a folder of semantic PNGs."""

import glob
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_d2.data.datasets.coco_json import read_coco_json
from mtl_d2.data.description_keys import is_inside, relative_name
from mtl_d2.data.edge_label import EDGE_LABELS
from mtl_d2.data.schema import DatasetError
from mtl_d2.data.targets import has_masks

logger = logging.getLogger(__name__)


def load_coco_multitask(
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    sem_seg_root: str | os.PathLike | None = None,
    edge_source: str = "none",
    *,
    thing_classes: Sequence[str] | None = None,
    dataset_name: str = "",
    partial: bool = False,
) -> list[dict]:
    """Load the records of one split; no image is opened.

    Args:
        json_file: COCO instances format; segmentations are polygons or RLE, crowds are kept.
        image_root: folder of the images; every ``file_name`` of the json has to stay inside.
        sem_seg_root: folder with the semantic label ``<file_name without its ending>.png`` of every image.
        edge_source: how edges are derived, written into each record unless "none".
        thing_classes: expected category names by ascending category id; None takes those of the json.
        dataset_name: for messages.
        partial: an image without a semantic PNG is unlabelled for it; otherwise every image gets the key and
            a missing file is an error of ``validate_records``.

    Returns:
        Dataset dicts of Detectron2 with contiguous category ids and ``sem_seg_file_name``, ``edge_source``.

    Raises:
        DatasetError: a path is missing or leaves image_root, the json is broken or has other categories.
    """
    where = f"dataset '{dataset_name}'" if dataset_name else "dataset"
    for path in (json_file, image_root, sem_seg_root):
        require_path(path, where)
    coco = read_coco_json(json_file)
    classes = list(coco.categories.values())
    if thing_classes is not None and list(thing_classes) != classes:
        raise DatasetError(
            f"{json_file}: 'categories': found {len(classes)} ({_few(classes)}), expected the "
            f"{len(thing_classes)} thing_classes of {where} ({_few(thing_classes)}); correct one of them."
        )
    contiguous: dict[int, int | None] = {category: index for index, category in enumerate(coco.categories)}
    records = []
    for image in coco.images:
        record = new_record(image, str(image_root), str(json_file))
        record["annotations"] = with_contiguous_ids(coco.annotations.pop(image["id"]), contiguous)
        if sem_seg_root is not None:
            label = label_path(sem_seg_root, os.path.relpath(record["file_name"], image_root))
            if not partial or os.path.isfile(label):
                record["sem_seg_file_name"] = label
        records.append(record)
    derive_edges_where_labelled(records, edge_source, where)
    return records


def new_record(image: Mapping[str, Any], image_root: str, source: str) -> dict[str, Any]:
    """The record of an image without its labels.

    Args:
        image: ``id``, ``file_name`` (in the folder of the images), ``height`` and ``width`` in pixels.
        image_root: the folder of the images.
        source: the file that names the image.

    Raises:
        DatasetError: the name leaves ``image_root``.
    """
    path = os.path.join(image_root, relative_name(image["file_name"], image_root))
    # Links inside the folder are the user's own; a path in a downloaded file is not.
    if not is_inside(path, image_root):
        raise DatasetError(
            f"{source}: 'file_name' of image {image['id']}: found {path!r}, expected a file inside {image_root}; "
            "correct the entry."
        )
    return {"file_name": path, "height": image["height"], "width": image["width"], "image_id": image["id"]}


def label_path(folder: str | os.PathLike, image_name: str) -> str:
    """The PNG of an image's label: its name without the ending, at the same place below ``folder``."""
    return os.path.join(folder, Path(image_name).with_suffix(".png"))


def annotators_paths(path: str) -> list[str]:
    """The PNGs of several annotators, sorted: those of the folder called as the label file without its ending."""
    return sorted(glob.glob(f"{glob.escape(path.removesuffix('.png'))}/*.png"))


def with_contiguous_ids(annotations: list[dict], contiguous: Mapping[int, int | None]) -> list[dict]:
    """The annotations with the run's class ids; those of an ignored class become regions of no class, as crowds are.

    Args:
        annotations: of one image, with the json's category ids; changed in place.
        contiguous: {category id: class of the run, or None for ignored}.
    """
    for annotation in annotations:
        category = contiguous[annotation["category_id"]]
        if category is None:  # there is something, which is neither background nor an example of a class
            annotation.update(iscrowd=1, class_agnostic=True)
        annotation["category_id"] = category or 0
    return annotations


def derive_edges_where_labelled(records: Sequence[dict], edge_source: str, where: str) -> None:
    """Set ``edge_source`` on the records that have the labels it needs; the others have no edge label.

    Args:
        records: with their other labels.
        edge_source: "instance", "semantic", "union" or "none".
        where: the dataset, for the log.
    """
    without_masks = 0
    for record in records:
        if edge_source == "none" or any(key not in record for key in EDGE_LABELS[edge_source]):
            continue
        if "annotations" in EDGE_LABELS[edge_source] and not has_masks(record["annotations"]):
            without_masks += 1
            continue
        record["edge_source"] = edge_source
    if without_masks:
        logger.warning("%s: %d images have annotations without a mask: no edges derived there", where, without_masks)


def require_path(path: str | os.PathLike | None, where: str, remedy: str = "") -> None:
    """Raise DatasetError if ``path`` is given and does not exist."""
    if path is not None and not os.path.exists(path):
        remedy = remedy or "set DETECTRON2_DATASETS to the folder that holds the datasets"
        raise DatasetError(f"{where}: {path} does not exist; {remedy}.")


def _few(names: Sequence[str]) -> str:
    return ", ".join(list(names)[:4]) + (", ..." if len(names) > 4 else "")
