"""What is checked before a training starts, so that it does not fail after an hour."""

import difflib
import logging
from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from mtl_d2.data.edge_label import EDGE_LABELS, EdgeLabel, has_derived_edges
from mtl_d2.data.keypoints import check_keypoints
from mtl_d2.data.labels import count_labels, labelling_tasks, task_labels
from mtl_d2.data.schema import DatasetError, DatasetSchema
from mtl_d2.data.targets import check_edge_source
from mtl_d2.data.validate import validate_records
from mtl_d2.structures.image_labels import image_label_source

logger = logging.getLogger(__name__)


def preflight(cfg: CfgNode) -> dict[str, dict[str, int]]:
    """Check every dataset of cfg.DATASETS.TRAIN and TEST against its files, its schema and cfg.

    Args:
        cfg: the config of the run.

    Returns:
        {dataset: {"images": number, task: number of images labelled for it, ...}}.

    Raises:
        DatasetError: the first problem, with dataset, file or key, what was found and what to do.
    """
    if len(cfg.DATASETS.TRAIN) == 0:
        raise DatasetError("DATASETS.TRAIN: found no dataset, expected at least one; name one.")
    counts: dict[str, dict[str, int]] = {}
    schemas: dict[str, DatasetSchema] = {}
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        records = load_records(name)
        schemas[name] = DatasetSchema.from_metadata(MetadataCatalog.get(name))
        validate_records(records, schemas[name], check_files=True, name=name)
        counts[name] = {"images": len(records), **count_labels(records, cfg.MODEL.MTL.TASKS, task_labels(cfg))}
        _check_class_counts(cfg, name, schemas[name], counts[name])
        if name in cfg.DATASETS.TRAIN:
            _warn_about_masks(cfg, name, records if "instance" in cfg.MODEL.MTL.TASKS else ())
            _check_derived_labels(cfg, name, schemas[name], records, counts[name])
        if counts[name].get("keypoint"):
            check_keypoints(cfg, MetadataCatalog.get(name), records, for_test=name in cfg.DATASETS.TEST)
    _check_same_classes(cfg.DATASETS.TRAIN, schemas)
    _check_tasks_labelled(cfg, counts)
    _warn_about_detections(cfg, schemas)
    return counts


def load_records(name: str) -> list[dict]:
    """The records of a registered dataset.

    Raises:
        DatasetError: the name is not registered (near names are listed), or its loader fails.
    """
    known = DatasetCatalog.list()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else "register it before the run, or give the path of its YAML."
        )
        raise DatasetError(f"DATASETS: found {name!r}, expected a registered dataset; {hint}")
    try:
        return DatasetCatalog.get(name)
    except DatasetError:
        raise
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:
        raise DatasetError(
            f"dataset '{name}': its loader fails with {type(error).__name__}: {error}; check its files, and "
            "that DETECTRON2_DATASETS is the folder that holds them."
        ) from error


def _check_class_counts(cfg: CfgNode, name: str, schema: DatasetSchema, counts: Mapping[str, int]) -> None:
    if counts.get("instance"):
        key = "MODEL.ROI_HEADS.NUM_CLASSES"
        _check_equal(key, cfg.MODEL.ROI_HEADS.NUM_CLASSES, len(schema.thing_classes), "thing_classes", name)
    if counts.get("sem_seg"):
        head = cfg.MODEL.SEM_SEG_HEAD
        key = "MODEL.SEM_SEG_HEAD"
        _check_equal(f"{key}.NUM_CLASSES", head.NUM_CLASSES, len(schema.stuff_classes), "stuff_classes", name)
        _check_equal(f"{key}.IGNORE_VALUE", head.IGNORE_VALUE, schema.ignore_label, "ignore_label", name)
    if counts.get("classification"):
        field = image_label_source(cfg.INPUT.MTL.IMAGE_LABELS).classes
        key = "MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES"
        found = cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES
        _check_equal(key, found, len(getattr(schema, field)), field, name)


def _check_derived_labels(
    cfg: CfgNode, name: str, schema: DatasetSchema, records: Sequence[dict], counts: Mapping[str, int]
) -> None:
    """What edges and image labels are made from in training; scores follow the dataset alone."""
    edge_label = EdgeLabel.from_config(cfg)
    made_from: set[str] = set()
    for record in records if "edge" in labelling_tasks(cfg.MODEL.MTL.TASKS) else ():
        check_edge_source(record, edge_label.source)
        if has_derived_edges(record):
            made_from.update(EDGE_LABELS[edge_label.source or record["edge_source"]])
    if counts.get("classification"):
        made_from.add(image_label_source(cfg.INPUT.MTL.IMAGE_LABELS).record_key)
    if "sem_seg_file_name" in made_from:
        key = "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"
        _check_equal(key, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE, schema.ignore_label, "ignore_label", name)


def _check_equal(key: str, found: int, expected: int, field: str, name: str) -> None:
    if found != expected:
        raise DatasetError(
            f"{key}: found {found}, expected {expected}, as in {field} of dataset '{name}'; set {key} {expected}."
        )


def _check_same_classes(names: Sequence[str], schemas: Mapping[str, DatasetSchema]) -> None:
    for field in ("thing_classes", "stuff_classes", "image_label_classes"):
        given = [name for name in names if getattr(schemas[name], field)]
        for name in given[1:]:
            if getattr(schemas[name], field) != getattr(schemas[given[0]], field):
                raise DatasetError(
                    f"DATASETS.TRAIN: {field} of '{name}' differ from those of '{given[0]}', expected the "
                    "same classes in the same order; train on one of them, or give it the other's classes "
                    "('thing_classes', 'semantic.run_classes', 'class_map' and 'image_labels.classes' of a "
                    "description)."
                )


def _check_tasks_labelled(cfg: CfgNode, counts: Mapping[str, Mapping[str, int]]) -> None:
    names = ", ".join(cfg.DATASETS.TRAIN)
    for task in cfg.MODEL.MTL.TASKS:
        if all(counts[name].get(task) == 0 for name in cfg.DATASETS.TRAIN):
            raise DatasetError(
                f"MODEL.MTL.TASKS: found '{task}', but no image of DATASETS.TRAIN ({names}) has labels for "
                f"it; {_remedy(cfg.DATASETS.TRAIN, task)}."
            )
    for name in cfg.DATASETS.TEST:
        if not any(counts[name].get(task, 1) for task in cfg.MODEL.MTL.TASKS):
            raise DatasetError(
                f"DATASETS.TEST: found '{name}' without labels for any of the tasks "
                f"{', '.join(cfg.MODEL.MTL.TASKS)}, nothing can be scored; remove it."
            )


def _remedy(names: Sequence[str], task: str) -> str:
    """What to do about labels that none of the datasets has: theirs, where their metadata ("missing_labels") say it."""
    known = (MetadataCatalog.get(name).get("missing_labels", {}).get(task) for name in names)
    return next(filter(None, known), "remove the task, or add a dataset with such labels")


def _warn_about_masks(cfg: CfgNode, name: str, records: Sequence[dict]) -> None:
    annotations = [annotation for record in records for annotation in record.get("annotations", ())]
    if cfg.MODEL.MASK_ON and annotations and not any("segmentation" in annotation for annotation in annotations):
        logger.warning(
            "MODEL.MASK_ON is True, but no object of dataset '%s' has a mask: its boxes train no mask head. Set it to "
            "False where no other dataset has masks.",
            name,
        )


def _warn_about_detections(cfg: CfgNode, schemas: Mapping[str, DatasetSchema]) -> None:
    for name in cfg.DATASETS.TEST:
        max_dets = schemas[name].max_dets
        if "instance" in cfg.MODEL.MTL.TASKS and max_dets > cfg.TEST.DETECTIONS_PER_IMAGE:
            logger.warning(
                "TEST.DETECTIONS_PER_IMAGE is %d, below max_dets %d of dataset '%s': recall is cut.",
                cfg.TEST.DETECTIONS_PER_IMAGE,
                max_dets,
                name,
            )
