"""What the commands have in common that make a table of several trainings."""

import argparse
import dataclasses
import signal
import sys
from pathlib import Path
from typing import TypeVar

from .ablation import Ablation
from .description import Comparison
from .yaml_values import ComparisonError

Described = TypeVar("Described", Comparison, Ablation)


def run_parser(doc: str, *, file: str, name: str, output: str) -> argparse.ArgumentParser:
    """A parser of the file that describes the trainings, and of how they are run.

    Args:
        doc: the script's description.
        file: what the file describes.
        name: what one of its networks is called, in the plural.
        output: the default folder.
    """
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("file", type=Path, metavar="FILE", help=f"the YAML that describes {file}")
    result.add_argument("--output", type=Path, default=Path(output), help="default: %(default)s")
    result.add_argument("--jobs", type=int, default=1, help="trainings beside each other (default: %(default)s)")
    result.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"train these {name} alone")
    result.add_argument("--seeds", type=int, metavar="N", help="the first N of the file's alone (default: all)")
    result.add_argument("--dry-run", action="store_true", help="list what would be run, and about how long")
    result.add_argument(
        "--rounds", type=int, default=6, help="of the timing of inference; 0 to measure no costs (default: %(default)s)"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="write the record there too")
    return result


def check_run_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError for numbers that mean nothing."""
    if args.jobs < 1 or args.rounds < 0 or args.rounds == 1:
        raise ValueError(f"--jobs {args.jobs} --rounds {args.rounds}: expected 1 or more jobs, 0 or 2 or more rounds")


def with_first_seeds(described: Described, count: int | None) -> Described:
    """What a file describes, with the first ``count`` of its seeds; None for all.

    The first, since the search is of the first: what a part of the seeds finds is then a part of what all find.

    Raises:
        ComparisonError: it has not as many.
    """
    if count is None:
        return described
    if not 1 <= count <= len(described.seeds):
        raise ComparisonError(f"--seeds {count}: expected 1 to {len(described.seeds)}, the seeds of {described.name}.")
    return dataclasses.replace(described, seeds=described.seeds[:count])


def end_on_sigterm() -> None:
    """End this process as an error would, so that the trainings that it started are ended too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
