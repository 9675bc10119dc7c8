"""Keypoints of objects: what a config needs to know of them, and where they lie after augmentation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.catalog import Metadata

from mtl_d2.structures.keypoint_sigmas import check_sigmas

from .labelled_image import Window
from .labels import is_labelled
from .schema import DatasetError


def keypoint_flip_indices(cfg: CfgNode) -> list[int]:
    """For each keypoint the one that it becomes in a mirror image, of those of DATASETS.TRAIN that have keypoints.

    Of a dataset without flip pairs it is each keypoint itself; then no flip may be configured.

    Raises:
        DatasetError: datasets disagree on their keypoints, have no flip pairs where images are flipped, or images are
            flipped vertically: a flip map says what is left and right, and nothing of above and below.
    """
    known = [m for name in cfg.DATASETS.TRAIN if (m := MetadataCatalog.get(name)).get("keypoint_names")]
    _check_no_vertical_flip(cfg)
    if not known:
        return list(range(cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS))
    for key in ("keypoint_names", "keypoint_flip_map"):
        other = next((m for m in known if _plain(m.get(key)) != _plain(known[0].get(key))), None)
        if other is not None:
            raise DatasetError(
                f"DATASETS.TRAIN: {key} of '{other.name}' differs from that of '{known[0].name}', expected the same "
                "keypoints in the same order; train on one of them, or correct it."
            )
    if known[0].get("keypoint_flip_map") is not None:
        return utils.create_keypoint_hflip_indices([known[0].name])
    if cfg.INPUT.RANDOM_FLIP != "none":
        raise DatasetError(
            f"INPUT.RANDOM_FLIP: found {cfg.INPUT.RANDOM_FLIP!r}, but dataset '{known[0].name}' does not say which "
            "keypoints swap in a mirror image; set it to none, or give keypoints.flip_pairs (keypoint_flip_map), [] "
            "where none does."
        )
    return list(range(len(known[0].keypoint_names)))


def _check_no_vertical_flip(cfg: CfgNode) -> None:
    for key, found, wanted in (
        ("INPUT.RANDOM_FLIP", cfg.INPUT.RANDOM_FLIP == "vertical" and "'vertical'", "horizontal or none"),
        ("INPUT.MTL.VERTICAL_FLIP_PROB", cfg.INPUT.MTL.VERTICAL_FLIP_PROB, "0"),
    ):
        if found:
            raise DatasetError(
                f"{key}: found {found}, but flip pairs of keypoints say what is left and right, and nothing of above "
                f"and below; set it to {wanted}, or remove the task 'keypoint'."
            )


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def transform_keypoints(
    objects: Sequence[Mapping[str, Any]],
    transforms: T.TransformList,
    size: tuple[int, int],
    inside: Window | None,
    flip_indices: Sequence[int],
) -> np.ndarray:
    """Keypoints of N objects in the transformed image, (N, K, 3) float32: x, y in pixels, COCO's visibility.

    What lies outside of the image, or in its padding, is not labelled (0, 0, 0), nor are those of an object without
    keypoints.

    Args:
        objects: annotations, of which some have "keypoints" [x, y, visibility, ...] in coordinates of the source.
        transforms: what was applied to the image.
        size: height and width of the transformed image in pixels.
        inside: its rows and columns that are not padding; None for all.
        flip_indices: of K, see :func:`keypoint_flip_indices`.

    Raises:
        ValueError: an object has another number of keypoints.
    """
    count = len(flip_indices)
    result = np.zeros((len(objects), count, 3), np.float32)
    for row, annotation in zip(result, objects, strict=True):
        given = annotation.get("keypoints", ())
        if len(given) not in (0, 3 * count):
            raise ValueError(f"'keypoints': found {len(given)} numbers, expected x, y and visibility of {count}")
        if len(given):
            row[:] = utils.transform_keypoint_annotations(given, transforms, size, flip_indices)
    if inside is not None:
        rows, columns = inside
        x, y = result[..., 0], result[..., 1]
        result[(x < columns.start) | (x > columns.stop) | (y < rows.start) | (y > rows.stop)] = 0
    return result


def check_keypoints(cfg: CfgNode, metadata: Metadata, records: Sequence[Mapping[str, Any]], *, for_test: bool) -> None:
    """Check a dataset that has keypoint labels against a config with the task "keypoint".

    Raises:
        DatasetError: with the key, what was found and what to set.
    """
    where, names = f"dataset '{metadata.name}'", metadata.get("keypoint_names", ())
    if not names:
        raise DatasetError(
            f"{where}: found 'keypoints' in its annotations, but no keypoint_names in its metadata; name them "
            "(keypoints.names of a description, DatasetSchema.keypoint_names)."
        )
    for record in (record for record in records if is_labelled(record, "keypoint")):
        lengths = {len(a["keypoints"]) for a in record["annotations"] if "keypoints" in a}
        if lengths != {3 * len(names)}:
            raise DatasetError(
                f"{where}, image {record['file_name']!r}: 'keypoints': found {sorted(lengths)} numbers, expected "
                f"x, y and visibility of each of {len(names)} keypoint_names; correct it."
            )
    key, found = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if found != len(names):
        raise DatasetError(
            f"{key}: found {found}, expected {len(names)}, as in keypoint_names of {where}; set {key} {len(names)}."
        )
    if for_test:
        check_sigmas(cfg.TEST.KEYPOINT_OKS_SIGMAS, len(names), metadata.name)
