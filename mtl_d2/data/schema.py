"""What a dataset's labels mean: the metadata that mapper, panoptic merging and evaluators read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from detectron2.data.catalog import Metadata

EDGE_SOURCES = ("instance", "semantic", "union", "none")
EVALUATOR_TYPE = "mtl"
_OPTIONAL = (
    *("thing_classes", "stuff_classes", "thing_colors", "stuff_colors", "image_label_classes"),
    *("keypoint_names", "keypoint_connection_rules"),
)


class DatasetError(ValueError):
    """A dataset, its files or its metadata cannot be used; the message says what to do."""


@dataclass(frozen=True)
class DatasetSchema:
    """Label spaces of one dataset; checked when made, written to Detectron2's metadata by :meth:`apply`.

    Attributes:
        thing_classes: names of the instance classes, by contiguous id; empty without instance labels.
        stuff_classes: names of all semantic classes, by semantic id (the field is Detectron2's);
            empty without semantic labels.
        stuff_ids: semantic ids that are stuff in panoptic segmentation, the others stand for things.
            None: all of them, which is allowed only where there are no things.
        image_label_classes: names of the labels of whole images; empty without such labels.
        ignore_label: value of void in the semantic PNG, in [0, 255], no class id.
        edge_source: labels from which edges are derived, one of ``EDGE_SOURCES``; "union" is instances
            painted over semantics.
        max_dets: detections per image that COCO AP takes into account.
        thing_dataset_id_to_contiguous_id: category id of the json file -> index in thing_classes.
        keypoint_names: of the keypoints of an instance, in the order of the annotations; empty without keypoint labels.
        keypoint_flip_map: pairs of names that swap in a mirror image, () where none does; None where that is not known.
        keypoint_connection_rules: (name, name, RGB) of the lines between keypoints, for drawing.
        thing_colors, stuff_colors: one RGB triple in [0, 255] per class, for drawing.

    Raises:
        DatasetError: a field contradicts another one.
    """

    thing_classes: Sequence[str] = ()
    stuff_classes: Sequence[str] = ()
    stuff_ids: Sequence[int] | None = None
    ignore_label: int = 255
    edge_source: str = "none"
    max_dets: int = 100
    thing_dataset_id_to_contiguous_id: Mapping[int, int] | None = None
    keypoint_names: Sequence[str] = ()
    keypoint_flip_map: Sequence[Sequence[str]] | None = None
    keypoint_connection_rules: Sequence[Sequence] = ()
    thing_colors: Sequence[Sequence[int]] = ()
    stuff_colors: Sequence[Sequence[int]] = ()
    image_label_classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        stuff_ids = range(len(self.stuff_classes)) if self.stuff_ids is None else self.stuff_ids
        if self.stuff_ids is None:
            _check_no_things(self)
        object.__setattr__(self, "stuff_ids", tuple(stuff_ids))
        for name in ("thing_classes", "stuff_classes", "keypoint_names", "image_label_classes"):
            _check_names(name, getattr(self, name))
        for name in ("thing", "stuff"):
            _check_colors(name, getattr(self, f"{name}_colors"), getattr(self, f"{name}_classes"))
        for name in _OPTIONAL:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_stuff_ids(stuff_ids, len(self.stuff_classes))
        _check_ignore_label(self)
        _check_edge_source(self)
        _check_id_mapping(self)
        _check_keypoint_pairs(self)
        if not _is_int(self.max_dets) or self.max_dets <= 0:
            raise DatasetError(f"max_dets: found {self.max_dets!r}, expected a positive integer such as 100.")

    def apply(self, metadata: Metadata) -> Metadata:
        """Write the schema into ``metadata`` and return it; what the dataset lacks is left unset.

        Raises:
            DatasetError: the metadata already holds another value.
        """
        for name, value in self.as_metadata().items():
            found = metadata.get(name, value)
            if found != value:
                raise DatasetError(
                    f"dataset '{metadata.name}': {name} is already {found!r}, expected {value!r}; "
                    "register the dataset under another name."
                )
        return metadata.set(**self.as_metadata())

    @classmethod
    def from_metadata(cls, metadata: Metadata) -> "DatasetSchema":
        """Read the schema of a registered dataset, including one that was not registered by mtl_d2."""
        values = {f.name: metadata.get(f.name) for f in fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except DatasetError as error:
            raise DatasetError(f"metadata of dataset '{metadata.name}': {error}") from None

    def as_metadata(self) -> dict:
        """The fields that Detectron2's metadata of the dataset has, without what the dataset lacks."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if not self.stuff_classes:  # Detectron2 asks with hasattr whether a dataset has a kind of label
            del values["stuff_ids"]
        values = {k: v for k, v in values.items() if v is not None and (k not in _OPTIONAL or len(v) > 0)}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {**values, "evaluator_type": EVALUATOR_TYPE}


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_names(field: str, names: Sequence[str]) -> None:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise DatasetError(f"{field}: found {names!r}, expected a list of class names that are not empty.")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DatasetError(f"{field}: found {twice[0]!r} more than once, expected unique names; rename one.")


def _check_colors(kind: str, colors: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    if len(colors) not in (0, len(classes)):
        raise DatasetError(
            f"{kind}_colors: found {len(colors)} colours, expected one for each of the {len(classes)} "
            f"{kind}_classes, or none."
        )


def _check_no_things(schema: DatasetSchema) -> None:
    if schema.stuff_classes and schema.thing_classes:
        raise DatasetError(
            "stuff_ids: missing although there are thing_classes and stuff_classes, expected the semantic "
            "ids that are stuff; give them, [] if every semantic class stands for things."
        )


def _check_stuff_ids(stuff_ids: Sequence[int], count: int) -> None:
    for i in stuff_ids:
        if not _is_int(i) or not 0 <= i < count:
            raise DatasetError(
                f"stuff_ids: found {i!r}, expected ids in [0, {count}), the indices of stuff_classes; "
                "stuff_classes lists every semantic class, things included."
            )
    if len(set(stuff_ids)) != len(stuff_ids):
        raise DatasetError(f"stuff_ids: found {list(stuff_ids)}, expected each id once.")


def _check_ignore_label(schema: DatasetSchema) -> None:
    if not _is_int(schema.ignore_label) or not 0 <= schema.ignore_label <= 255:
        raise DatasetError(f"ignore_label: found {schema.ignore_label!r}, expected a value of an 8-bit PNG, 0 to 255.")
    if len(schema.stuff_classes) > schema.ignore_label:
        raise DatasetError(
            f"ignore_label: found {schema.ignore_label}, which is the id of a class, expected at least "
            f"{len(schema.stuff_classes)}, the number of stuff_classes; use 255."
        )


def _check_edge_source(schema: DatasetSchema) -> None:
    if schema.edge_source not in EDGE_SOURCES:
        known = ", ".join(map(repr, EDGE_SOURCES))
        raise DatasetError(f"edge_source: found {schema.edge_source!r}, expected one of {known}.")
    for kind, classes in (("instance", "thing_classes"), ("semantic", "stuff_classes")):
        if schema.edge_source in (kind, "union") and not getattr(schema, classes):
            raise DatasetError(
                f"edge_source: found {schema.edge_source!r}, but the dataset has no {classes}, expected "
                f"{kind} labels; add them or take another edge_source."
            )


def _check_keypoint_pairs(schema: DatasetSchema) -> None:
    for field in ("keypoint_flip_map", "keypoint_connection_rules"):
        for pair in getattr(schema, field) or ():
            unknown = [name for name in pair[:2] if name not in schema.keypoint_names]
            if unknown:
                raise DatasetError(
                    f"{field}: found {unknown[0]!r}, expected two of keypoint_names {list(schema.keypoint_names)}; "
                    "correct it."
                )


def _check_id_mapping(schema: DatasetSchema) -> None:
    mapping = schema.thing_dataset_id_to_contiguous_id
    if mapping is not None and sorted(mapping.values()) != list(range(len(schema.thing_classes))):
        raise DatasetError(
            f"thing_dataset_id_to_contiguous_id: found values {sorted(mapping.values())}, expected each of "
            f"0 to {len(schema.thing_classes) - 1} once, the indices of thing_classes."
        )
