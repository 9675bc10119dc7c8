"""Registration in Detectron2's catalogs: lazy, nothing on disk is read."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from mtl_d2.data.datasets.coco_format import load_coco_multitask
from mtl_d2.data.schema import DatasetSchema


def datasets_root() -> Path:
    """The folder that holds all datasets: $DETECTRON2_DATASETS, or ./datasets as in Detectron2."""
    return Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser()


def register_dataset(
    name: str,
    load: Callable[[], list[dict]],
    schema: DatasetSchema,
    *,
    replace: bool = False,
    **metadata: object,
) -> None:
    """Register ``load``, which returns the records when they are asked for, with its schema and metadata.

    A name that is taken is left as it is, unless ``replace``: then its loader and metadata are renewed.
    """
    if name in DatasetCatalog.list():
        if not replace:
            return
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
    DatasetCatalog.register(name, load)
    schema.apply(MetadataCatalog.get(name)).set(**metadata)


def register_coco_multitask(
    name: str,
    schema: DatasetSchema,
    json_file: str | os.PathLike,
    image_root: str | os.PathLike,
    sem_seg_root: str | os.PathLike | None = None,
    *,
    replace: bool = False,
) -> None:
    """Register a dataset of the form "COCO instances json + image folder + folder of semantic PNGs"."""
    load = functools.partial(
        load_coco_multitask,
        json_file,
        image_root,
        sem_seg_root,
        schema.edge_source,
        thing_classes=schema.thing_classes,
        dataset_name=name,
    )
    paths = {"json_file": str(json_file), "image_root": str(image_root)}
    if sem_seg_root is not None:
        paths["sem_seg_root"] = str(sem_seg_root)
    register_dataset(name, load, schema, replace=replace, **paths)
