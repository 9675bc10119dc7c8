"""Benchmarks, one file each: what is compared is asserted to be equal before it is timed.

Each module has ``SUMMARY`` (one line), a docstring for ``--help``, ``add_arguments(parser)`` and
``run(args) -> Findings``; ``args`` has ``rounds`` and ``seed``.
"""

from types import ModuleType

from . import balance, edges, joint, mapper, parity

BENCHMARKS: dict[str, ModuleType] = {
    "joint": joint,
    "parity": parity,
    "mapper": mapper,
    "balance": balance,
    "edges": edges,
}
