"""Parts of a registered dataset, named in a config: ``nuclei_train.rest0of3`` to train on, ``nuclei_train.fold0of3`` to
score on, ``nuclei_train.sample100`` for a hundred images of it.

A permutation of the records (of seed 0, or as ``fold0of3seed7`` says) is dealt out to n folds in turn: they are
disjoint and hold all records. ``rest<k>of<n>`` is what fold k leaves. A part keeps the order of its dataset.
"""

import functools
import re
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from mtl_d2.data.schema import DatasetError

_NAME = re.compile(
    r"(?P<of>.+)\.(?:(?P<kind>fold|rest)(?P<fold>\d+)of(?P<folds>\d+)|sample(?P<size>\d+))(?:seed(?P<seed>\d+))?"
)


def parent_of(name: str) -> str | None:
    """The dataset that ``name`` is a part of; None where it is no name of a part."""
    match = _NAME.fullmatch(name)
    return match["of"] if match else None


def register_subset(parent: str, name: str) -> str:
    """Register a part under the parent's name and its own ending; nothing is read before it is used.

    Args:
        parent: a registered dataset.
        name: that says which part, such as "shapes_train.fold0of3".

    Returns:
        the part's name.

    Raises:
        DatasetError: there is no such fold.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DatasetError(
            f"{name!r} is no part of a dataset: expected such as {parent}.fold0of3 or {parent}.sample100"
        )
    if match["kind"] and not int(match["fold"]) < int(match["folds"]):
        raise DatasetError(f"DATASETS: found {name!r}, expected a fold from 0 to {int(match['folds']) - 1}")
    part = parent + name[len(match["of"]) :]
    if part not in DatasetCatalog.list():
        DatasetCatalog.register(part, functools.partial(_load, parent, part))
        _take_metadata(parent, part)
    return part


def subset_indices(name: str, length: int) -> list[int]:
    """Ascending indices of the records that a part such as "x.fold0of3" has, of a dataset of ``length`` records.

    Raises:
        DatasetError: the dataset has fewer records than the part needs.
    """
    match = _NAME.fullmatch(name)
    assert match is not None, name
    order = np.random.default_rng(int(match["seed"] or 0)).permutation(length)
    needed = int(match["size"] or match["folds"])
    if not 0 < needed <= length:
        raise DatasetError(
            f"DATASETS: found {name!r}, but {match['of']} has {length} images; ask for no more than that"
        )
    if match["size"]:
        return sorted(order[:needed].tolist())
    mine = order[int(match["fold"]) :: needed]
    return sorted((mine if match["kind"] == "fold" else np.setdiff1d(order, mine)).tolist())


def _load(parent: str, part: str) -> list[dict[str, Any]]:
    records = DatasetCatalog.get(parent)
    _take_metadata(parent, part)  # some of it is known only now
    return [records[i] for i in subset_indices(part, len(records))]


def _take_metadata(parent: str, part: str) -> None:
    known = MetadataCatalog.get(part).as_dict()
    values = {key: value for key, value in MetadataCatalog.get(parent).as_dict().items() if key not in known}
    MetadataCatalog.get(part).set(**values)
