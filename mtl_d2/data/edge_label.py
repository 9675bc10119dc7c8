"""What a training label of edges is made of, and how wide it is."""

from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode

from ..structures.edge_kinds import EDGE_KINDS

EDGE_LABELS = {  # edge_source -> keys of the record that it is derived from
    "instance": ("annotations",),
    "semantic": ("sem_seg_file_name",),
    "union": ("annotations", "sem_seg_file_name"),
}


@dataclass(frozen=True, kw_only=True)
class EdgeLabel:
    """Options of the training labels; what is scored against stays thin, and as the dataset says.

    Attributes:
        kind: one of ``EDGE_KINDS``, see ``edges_of_kind``.
        radius: in pixels, of the kinds that are wider than a pixel.
        source: instead of the records' own ``edge_source``; "" for that. Edges that a record has a file of stay.
        eta: share of the annotators that make a pixel an edge, see ``edge_consensus``.

    Raises:
        ValueError: an option is out of its range; the message names its key in the config.
    """

    kind: str = "thin"
    radius: int = 2
    source: str = ""
    eta: float = 0.5

    def __post_init__(self) -> None:
        sources = ("", *EDGE_LABELS)
        for name, is_right, expected in (
            ("KIND", self.kind in EDGE_KINDS, f"one of {', '.join(EDGE_KINDS)}"),
            ("RADIUS", self.radius >= 1, "1 pixel or more"),
            ("SOURCE", self.source in sources, f"one of {', '.join(EDGE_LABELS)}, or '' for that of the dataset"),
            ("ETA", 0 < self.eta <= 1, "a share of the annotators above 0 and at most 1"),
        ):
            if not is_right:
                raise ValueError(f"INPUT.MTL.EDGE.{name} is {getattr(self, name.lower())!r}, expected {expected}.")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "EdgeLabel":
        """Those of INPUT.MTL.EDGE."""
        return cls(**{key.lower(): value for key, value in cfg.INPUT.MTL.EDGE.items()})

    def apply_source(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record, with ``source`` in place of its own where its edges are derived from other labels."""
        if self.source and has_derived_edges(record):
            return {**record, "edge_source": self.source}
        return record


def has_derived_edges(record: dict[str, Any]) -> bool:
    """Return whether the record's edges are derived from its other labels: it says from which, and has no file."""
    return "edge_file_name" not in record and record.get("edge_source") not in (None, "none")
