"""Records of a dataset that a description describes."""

import os
from collections.abc import Sequence

from detectron2.data import MetadataCatalog

from mtl_d2.data.datasets.coco_format import (
    annotators_paths,
    derive_edges_where_labelled,
    label_path,
    new_record,
    require_path,
    with_contiguous_ids,
)
from mtl_d2.data.datasets.coco_json import CocoJson, read_coco_json
from mtl_d2.data.datasets.image_labels import add_image_labels
from mtl_d2.data.datasets.image_list import list_images
from mtl_d2.data.description import ALL_IMAGES, Description
from mtl_d2.data.description_classes import description_metadata, map_things, semantic_id_map
from mtl_d2.data.schema import DatasetError


def load_described(description: Description) -> list[dict]:
    """The records of a described dataset; what its json says of the classes goes into the dataset's metadata.

    An image has the key of a label only where it is labelled: the json lists it, its PNG is there.

    Raises:
        DatasetError: a file is missing, broken or contradicts the description, or a kind of label is found for no
            image.
    """
    _require_files(description)
    coco = read_coco_json(description.instances) if description.instances else None
    images = list_images(description, coco)
    records = [new_record(image, description.images, image["source"]) for image in images]
    names = [image["file_name"] for image in images]
    if coco is not None:
        _add_annotations(records, coco, description)
    semantic = description.semantic
    if semantic is not None:
        id_map = semantic_id_map(description, semantic)
        where = f"{description.source}: 'semantic.folder'"
        for record in _add_files(records, names, semantic.folder, "sem_seg_file_name", where=where):
            if id_map is not None:
                record["sem_seg_id_map"] = id_map
    if description.edges.folder is not None:
        where = f"{description.source}: 'edges.folder'"
        _add_files(records, names, description.edges.folder, "edge_file_name", where=where, annotators=True)
    if description.image_labels is not None:
        add_image_labels(records, names, description.image_labels, description.images)
    derive_edges_where_labelled(records, description.edges.derive, f"dataset '{description.name}'")
    return records


def _require_files(description: Description) -> None:
    split = None if description.split == ALL_IMAGES else description.split
    semantic = description.semantic.folder if description.semantic else None
    labels = description.image_labels.file if description.image_labels else None
    for path in (description.images, split, description.instances, semantic, description.edges.folder, labels):
        require_path(
            path,
            f"dataset '{description.name}'",
            f"correct {description.source}, or DETECTRON2_DATASETS if the path begins with it",
        )


def _add_annotations(records: Sequence[dict], coco: CocoJson, description: Description) -> None:
    classes, indices = map_things(description, list(coco.categories.values()))
    contiguous = dict(zip(coco.categories, indices, strict=True))
    _check_keypoints(coco, description)
    for record in records:
        annotations = coco.annotations.pop(record["image_id"], None)
        if annotations is not None:
            record["annotations"] = with_contiguous_ids(annotations, contiguous)
    if not any("annotations" in record for record in records):
        raise DatasetError(
            f"{coco.path}: lists none of the {len(records)} images of {description.source}, expected names such as "
            f"{records[0]['file_name']!r} relative to {description.images}; correct 'images' or 'split'."
        )
    ids = {category: index for category, index in contiguous.items() if index is not None}
    is_one_to_one = sorted(ids.values()) == list(range(len(classes)))
    metadata = description_metadata(description, classes, ids if is_one_to_one else None)
    MetadataCatalog.get(description.name).set(**metadata)


def _check_keypoints(coco: CocoJson, description: Description) -> None:
    """Refuse keypoints of another number than the description names; without names they are dropped."""
    count = len(description.keypoints.names) if description.keypoints else 0
    for image_id, annotations in coco.annotations.items():
        for annotation in annotations:
            if not count:
                annotation.pop("keypoints", None)
            elif len(annotation.get("keypoints", range(3 * count))) != 3 * count:
                raise DatasetError(
                    f"{coco.path}: 'keypoints' of an annotation of image {image_id!r}: found "
                    f"{len(annotation['keypoints'])} numbers, expected x, y and visibility of each of {count} names; "
                    f"correct it, or 'keypoints.names' of {description.source}."
                )


def _add_files(
    records: Sequence[dict],
    names: Sequence[str],
    folder: str,
    record_key: str,
    *,
    where: str,
    annotators: bool = False,
) -> list[dict]:
    """Set the label file of each image that has one; return those records.

    With ``annotators``, an image may have a folder instead, called as the file without its ending: then its PNGs are
    set as a list, one of each annotator.
    """
    labelled = []
    for record, name in zip(records, names, strict=True):
        path = label_path(folder, name)
        drawn = annotators_paths(path) if annotators else []
        if os.path.isfile(path) or drawn:
            record[record_key] = drawn or path
            labelled.append(record)
    if not labelled:
        raise DatasetError(
            f"{where}: found a label of none of the {len(names)} images in {folder}, expected "
            f"files such as {label_path(folder, names[0])}; rename them, or correct the key."
        )
    return labelled
