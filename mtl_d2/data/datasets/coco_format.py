"""Records from a COCO instances json, an image folder and a folder of semantic PNGs."""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json

from mtl_d2.data.schema import DatasetError


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
    records, classes = _load_instances(str(json_file), str(image_root))
    if thing_classes is not None and list(thing_classes) != classes:
        raise DatasetError(
            f"{json_file}: 'categories': found {len(classes)} ({_few(classes)}), expected the "
            f"{len(thing_classes)} thing_classes of {where} ({_few(thing_classes)}); correct one of them."
        )
    for record in records:
        _check_inside(record, str(image_root), str(json_file))
        if sem_seg_root is not None:
            relative = Path(record["file_name"]).relative_to(image_root).with_suffix(".png")
            label = os.path.join(sem_seg_root, relative)
            if not partial or os.path.isfile(label):
                record["sem_seg_file_name"] = label
        if edge_source != "none" and (edge_source == "instance" or "sem_seg_file_name" in record):
            record["edge_source"] = edge_source
    return records


def require_path(path: str | os.PathLike | None, where: str, remedy: str = "") -> None:
    """Raise DatasetError if ``path`` is given and does not exist."""
    if path is not None and not os.path.exists(path):
        remedy = remedy or "set DETECTRON2_DATASETS to the folder that holds the datasets"
        raise DatasetError(f"{where}: {path} does not exist; {remedy}.")


def _load_instances(json_file: str, image_root: str) -> tuple[list[dict], list[str]]:
    # load_coco_json writes what it finds into the metadata, where a mismatch is a bare AssertionError: a
    # scratch entry gives the same mapping to contiguous ids, and lets the caller compare the names.
    scratch = f"_coco_{uuid.uuid4().hex}"
    try:
        records = load_coco_json(json_file, image_root, scratch)
        return records, list(MetadataCatalog.get(scratch).thing_classes)
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or "no details"
        raise DatasetError(
            f"{json_file}: {type(error).__name__} ({reason}), expected COCO's instances format "
            "('images', 'annotations', 'categories'); correct the file."
        ) from error
    finally:
        MetadataCatalog.pop(scratch, None)


def _check_inside(record: dict, image_root: str, json_file: str) -> None:
    # Links inside the folder are the user's own; a path in a downloaded json is not.
    root = os.path.abspath(image_root)
    path = os.path.abspath(record["file_name"])
    if os.path.commonpath([root, path]) != root or path == root:
        raise DatasetError(
            f"{json_file}: 'file_name' of image {record['image_id']}: found {record['file_name']!r}, "
            f"expected a file inside {image_root}; correct the entry."
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(list(names)[:4]) + (", ..." if len(names) > 4 else "")
