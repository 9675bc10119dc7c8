"""Registration of described datasets: by keys, by the path of a YAML file, or by such paths in a config."""

import functools
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from mtl_d2.data.datasets.described import load_described
from mtl_d2.data.datasets.register import datasets_root
from mtl_d2.data.datasets.subsets import parent_of, register_subset
from mtl_d2.data.description import Description, parse_description, read_description
from mtl_d2.data.description_classes import description_metadata
from mtl_d2.data.schema import DatasetError


def register_multitask_dataset(name: str, *, replace: bool = False, **keys: Any) -> str:
    """Register a dataset with any subset of labels; no file is read before the dataset is used.

    Args:
        name: in Detectron2's catalogs.
        replace: register it anew where the name is taken.
        keys: those of a description (README, "Your own data"), such as ``images="pets/images"`` and
            ``semantic={"folder": ..., "classes": [...]}``. Relative paths start from $DETECTRON2_DATASETS.

    Returns:
        the name.

    Raises:
        DatasetError: a key is unknown, missing or has a bad value, or the name is taken by another dataset.
    """
    root = datasets_root()
    source = f"register_multitask_dataset({name!r})"
    return _register(parse_description({"name": name, **keys}, source=source, root=root, datasets_root=root), replace)


def register_description(path: str | os.PathLike, *, replace: bool = False) -> str:
    """Register the dataset that a YAML file describes; of the files that it names, none is read before it is used.

    Args:
        path: of the YAML file (README, "Your own data"). Relative paths in it start from its folder.
        replace: register it anew where the name is taken.

    Returns:
        the dataset's name.

    Raises:
        DatasetError: the file is missing or no YAML, a key is unknown, missing or has a bad value, or the name is
            taken by another dataset.
    """
    return _register(read_description(path, datasets_root()), replace)


def resolve_dataset(name: str) -> str:
    """The name of a dataset, which is registered if it is given by the path of its description (``.yaml``), or as a
    part of another (see :mod:`mtl_d2.data.datasets.subsets`).

    Raises:
        DatasetError: see :func:`register_description` and :func:`register_subset`.
    """
    parent = parent_of(name)
    if parent is not None and name not in DatasetCatalog.list():
        return register_subset(resolve_dataset(parent), name)
    return register_description(name) if name.lower().endswith((".yaml", ".yml")) else name


def resolve_datasets(cfg: CfgNode) -> None:
    """Register the descriptions whose paths stand in DATASETS.TRAIN and TEST, and put their names there, in place.

    Raises:
        DatasetError: see :func:`register_description`.
    """
    frozen = cfg.is_frozen()
    cfg.defrost()
    for key in ("TRAIN", "TEST"):
        cfg.DATASETS[key] = tuple(resolve_dataset(name) for name in cfg.DATASETS[key])
    if frozen:
        cfg.freeze()


def _register(description: Description, replace: bool) -> str:
    name = description.name
    if name in DatasetCatalog.list():
        other = MetadataCatalog.get(name).get("description")
        if not replace and other == description:
            return name
        if not replace:
            raise DatasetError(
                f"{description.source}: 'name': found {name!r}, which {other.source if other else 'another dataset'} "
                "has too, with other content; expected a name of its own; change one of the two."
            )
        DatasetCatalog.remove(name)
    metadata = description_metadata(description)
    MetadataCatalog.pop(name, None)
    DatasetCatalog.register(name, functools.partial(load_described, description))
    MetadataCatalog.get(name).set(description=description, **metadata)
    return name
