"""The classes of a dataset as the classes of a run: renamed, merged, dropped, in another order."""

from collections.abc import Mapping, Sequence
from typing import Any

from .description import Description, Semantic
from .description_keys import did_you_mean
from .schema import DatasetError, DatasetSchema


def map_classes(
    names: Sequence[str],
    renames: Mapping[str, str | None],
    run_classes: Sequence[str],
    *,
    source: str,
    map_key: str,
    classes_key: str,
) -> tuple[list[str], list[int | None]]:
    """Find each class of a dataset among the run's, by name.

    Args:
        names: of the dataset's classes.
        renames: {name in the dataset: name in the run, or None for ignored}; the others keep their names.
        run_classes: the run's classes; empty for those that the dataset has, renamed, in its order.
        source, map_key, classes_key: the description and its keys, for messages.

    Returns:
        the run's classes, and for each of ``names`` its index there, or None where it is ignored.

    Raises:
        DatasetError: a name is renamed that the dataset lacks, or one leads to no class of the run.
    """
    for name in renames:
        if name not in names:
            raise DatasetError(
                f"{source}: '{map_key}': found {name!r}, which is no class of the dataset, {did_you_mean(name, names)}"
            )
    meant = [renames.get(name, name) for name in names]
    classes = list(run_classes) or list(dict.fromkeys(name for name in meant if name is not None))
    if not classes:
        raise DatasetError(f"{source}: '{map_key}': found no class that is kept, expected one; keep one.")
    for name, new in zip(names, meant, strict=True):
        if new is not None and new not in classes:
            raise DatasetError(
                f"{source}: '{classes_key}': found no {new!r}, which the dataset's class {name!r} becomes, "
                f"expected it among {', '.join(classes)}; add it there, or map {name!r} to one of them, or to null, in "
                f"'{map_key}'."
            )
    return classes, [None if new is None else classes.index(new) for new in meant]


def map_things(description: Description, categories: Sequence[str]) -> tuple[list[str], list[int | None]]:
    """``map_classes`` for the categories of the json."""
    return map_classes(
        categories,
        description.thing_map,
        description.thing_classes,
        source=description.source,
        map_key="class_map.things",
        classes_key="thing_classes",
    )


def map_semantic(description: Description, semantic: Semantic) -> tuple[list[str], list[int | None]]:
    """``map_classes`` for the ids of the semantic PNGs."""
    return map_classes(
        semantic.classes,
        description.semantic_map,
        semantic.run_classes,
        source=description.source,
        map_key="class_map.semantic",
        classes_key="semantic.run_classes",
    )


def semantic_id_map(description: Description, semantic: Semantic) -> dict[int, int] | None:
    """{id in the PNGs: id of the run, or void}; None where they are the same."""
    classes, indices = map_semantic(description, semantic)
    if indices == list(range(len(indices))):
        return None
    id_map = {found: semantic.ignore_label if meant is None else meant for found, meant in enumerate(indices)}
    return {**id_map, semantic.ignore_label: semantic.ignore_label}


def description_metadata(
    description: Description, thing_classes: Sequence[str] = (), category_ids: Mapping[int, int] | None = None
) -> dict[str, Any]:
    """Detectron2's metadata of a described dataset, without what is not known (yet).

    Args:
        description: of the dataset.
        thing_classes: the run's, once the json is read; by default those of the description, if it has them.
        category_ids: {category id of the json: index in ``thing_classes``}, once the json is read and where each class
            is one category.

    Raises:
        DatasetError: the classes contradict each other.
    """
    semantic = description.semantic
    stuff_classes = map_semantic(description, semantic)[0] if semantic else []
    try:
        values = DatasetSchema(
            thing_classes=thing_classes or description.thing_classes,
            stuff_classes=stuff_classes,
            stuff_ids=_stuff_ids(description, semantic, stuff_classes) if semantic else None,
            ignore_label=semantic.ignore_label if semantic else 255,
            max_dets=description.max_dets,
            thing_dataset_id_to_contiguous_id=category_ids,
            image_label_classes=description.image_labels.classes if description.image_labels else (),
        ).as_metadata()
    except DatasetError as error:
        raise DatasetError(f"{description.source}: {error}") from error
    values["edge_source"] = description.edges.derive
    # What the datasets of a run must agree on is left to those that have it.
    if semantic is None:
        del values["ignore_label"]
    elif semantic.stuff is None:
        del values["stuff_ids"]
    if description.keypoints is not None:
        values["keypoint_names"] = list(description.keypoints.names)
        if description.keypoints.flip_pairs is not None:
            values["keypoint_flip_map"] = list(description.keypoints.flip_pairs)
    return values


def _stuff_ids(description: Description, semantic: Semantic, classes: Sequence[str]) -> list[int] | None:
    if semantic.stuff is None:
        return None
    ids = []
    for name in semantic.stuff:
        meant = description.semantic_map.get(name, name)
        if meant not in classes:
            raise DatasetError(
                f"{description.source}: 'semantic.stuff': found {name!r}, which is no class, "
                f"{did_you_mean(name, classes)}"
            )
        ids.append(classes.index(meant))
    return sorted(set(ids))
