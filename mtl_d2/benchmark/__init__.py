"""Benchmarks, one file each: what is compared is asserted to be equal before it is timed.

Each module has ``SUMMARY`` (one line), a docstring for ``--help``, ``add_arguments(parser)`` and
``run(args) -> Findings``; ``args`` has ``rounds`` and ``seed``.
"""

from types import ModuleType

from . import balance, edge_label, edges, joint, mapper, parity

BENCHMARKS: dict[str, ModuleType] = {
    "joint": joint,
    "parity": parity,
    "mapper": mapper,
    "edge_label": edge_label,
    "edges": edges,
    "balance": balance,
}
