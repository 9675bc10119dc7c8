"""Edge ground truth of a dataset record, in the size of the file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

from mtl_d2.evaluation.rle import encode_mask, to_rle
from mtl_d2.structures import (
    edge_consensus,
    edge_files,
    edges_from_ids,
    id_map,
    read_label_map,
    read_semantic_ids,
    thin,
)
from mtl_d2.structures.edges import EDGE

EDGE_SOURCES = ("instance", "semantic", "union")

Record = dict[str, Any]


def has_edge_label(record: Record) -> bool:
    """Whether a record says where its edges are."""
    return "edge_file_name" in record or record.get("edge_source") not in (None, "none")


def ground_truth_edges(record: Record, ignore_label: int = 255) -> np.ndarray:
    """Edges of a record to score against, thinned as the benchmark's are.

    ``edges_from_ids`` alone gives staircases, of which a thinned prediction can match four pixels in five: a
    perfect map would reach 0.90 ODS instead of 0.99. What thinning takes away is no edge.

    Read from ``edge_file_name`` where there is one (0 is no edge, 255 is an edge, as is 1; of several annotators,
    the ``edge_consensus``, for which ``annotator_edges`` is what to score against), else derived by
    ``edge_source``: "instance" from the masks of ``annotations``, where crowd regions are ignored;
    "semantic" from ``sem_seg_file_name``, where ``ignore_label`` is ignored; "union" from the instances
    painted over the semantic map, where both are. A pixel that an instance covers is never ignored.

    Args:
        record: a dataset dict with ``height`` and ``width``.
        ignore_label: void in the semantic PNG.

    Returns:
        (height, width) uint8 in {0, 1, 255}: no edge, edge, ignored.

    Raises:
        ValueError: the record has no edge label, lacks what its edge label is derived from, or a size is
            wrong.
    """
    size = int(record["height"]), int(record["width"])
    if "edge_file_name" in record:
        return edge_consensus(annotator_edges(record))
    source = record.get("edge_source")
    if source not in EDGE_SOURCES:
        raise ValueError(f"{_name(record)}: edge_source must be one of {', '.join(EDGE_SOURCES)}, found {source!r}.")
    ignore = np.zeros(size, bool)
    sem_seg = None
    masks: Sequence[np.ndarray] = []
    areas: list[int] = []
    if source in ("semantic", "union"):
        label_file = _needed(record, "sem_seg_file_name", source)
        sem_seg = _of_size(read_semantic_ids(record), size, label_file)
        ignore |= sem_seg == ignore_label
    if source in ("instance", "union"):
        annotations = _needed(record, "annotations", source)
        for annotation in annotations:
            if annotation.get("iscrowd", 0):
                ignore |= mask_api.decode(_rle(annotation, size, record)).astype(bool)
        rles = [_rle(annotation, size, record) for annotation in annotations if not annotation.get("iscrowd", 0)]
        masks, areas = _DecodedMasks(rles), [int(mask_api.area(rle)) for rle in rles]
    ids = id_map(masks, sem_seg, areas=areas, size=size)
    num_classes = 1 if sem_seg is None else len(np.unique(sem_seg))
    edges = edges_from_ids(ids, ignore & (ids < num_classes))
    edges[(edges == EDGE) & ~thin(edges == EDGE)] = 0
    return edges


def annotator_edges(record: Record, ignore_label: int = 255) -> list[np.ndarray]:
    """The edges to score against, of each annotator: of one, unless ``edge_file_name`` is a list.

    Args and errors as of ``ground_truth_edges``, and the maps too; those of a list have no ignored pixels.
    """
    if "edge_file_name" not in record:
        return [ground_truth_edges(record, ignore_label)]
    size = int(record["height"]), int(record["width"])
    return [thin(_of_size(read_label_map(name), size, name)).astype(np.uint8) for name in edge_files(record)]


class _DecodedMasks(Sequence):
    """Masks decoded one at a time: hundreds of them in a large image would fill the memory."""

    def __init__(self, rles: list[dict]):
        self.rles = rles

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # slices are not asked for
        return mask_api.decode(self.rles[index]).view(bool)


def _rle(annotation: dict, size: tuple[int, int], record: Record) -> dict:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, np.ndarray):
        segmentation = encode_mask(segmentation.astype(bool))
    if not segmentation or not isinstance(segmentation, list | dict):
        raise ValueError(
            f"{_name(record)}: edges are derived from masks, so the segmentation of an annotation must be "
            f"polygons or an RLE, found {segmentation!r}."
        )
    if isinstance(segmentation, dict) and tuple(segmentation["size"]) != size:
        raise ValueError(f"{_name(record)}: an RLE has the size {segmentation['size']}, the image {list(size)}.")
    return to_rle(segmentation, *size)


def _of_size(label: np.ndarray, size: tuple[int, int], file_name: str) -> np.ndarray:
    if label.shape != size:
        raise ValueError(f"{file_name} must have its image's size (height, width), {size}, found {label.shape}.")
    return label


def _needed(record: Record, key: str, source: str) -> Any:
    if key not in record:
        raise ValueError(f"{_name(record)}: edge_source is {source!r}, but the record has no {key!r}: add it.")
    return record[key]


def _name(record: Record) -> str:
    return f"record {record.get('file_name', '<without file_name>')}"
