#!/usr/bin/env python
"""Measure what the project claims about its speed: equality first, then time.

What is compared runs interleaved in one process, on a CPU in one thread and in CPU seconds, on a GPU between events.
The first round is dropped, and the ratio of the medians is printed with a bootstrap interval over the rounds, beside
the ratio of the floating point operations (FLOP floor), which says what sharing alone can give.

Exit status: 0 where all that has to be equal is equal, 1 where it is not (nothing is timed then), 2 for wrong input.

Examples:

  one network against three:     python tools/benchmark.py joint --json output/benchmark/joint.json
  at twice the size:             python tools/benchmark.py joint --size 640 960 --rounds 6
  on a GPU, in float32:          python tools/benchmark.py joint --device cuda --no-bf16 --batch-sizes 2
  against Detectron2's network:  python tools/benchmark.py parity
  against Detectron2's mapper:   python tools/benchmark.py mapper
  edge labels:                   python tools/benchmark.py edge_label
  the price of balancing:        python tools/benchmark.py balance --methods uncertainty upgrad
  the edge score's matching:     python tools/benchmark.py edges --dataset nuclei_val
  to try a command:              python tools/benchmark.py joint --quick
  with another config key:       python tools/benchmark.py joint MODEL.RESNETS.DEPTH 101
"""

import argparse
import sys
from pathlib import Path

import torch

import mtl_d2  # noqa: F401  registers the networks
from mtl_d2.balancing import MissingExtraError
from mtl_d2.benchmark import BENCHMARKS
from mtl_d2.benchmark.report import render, write_findings
from mtl_d2.engine.record import PACKAGE_DIR, git_state


def parser() -> argparse.ArgumentParser:
    """One subcommand per benchmark."""
    formatter = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    subparsers = result.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for name, module in BENCHMARKS.items():
        sub = subparsers.add_parser(name, help=module.SUMMARY, description=module.__doc__, formatter_class=formatter)
        module.add_arguments(sub)
        sub.add_argument("--json", type=Path, metavar="FILE", help="write the record there too")
    return result


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    torch.set_num_threads(1)
    checkout = git_state(PACKAGE_DIR)  # now: it may move on while this runs
    try:
        findings = BENCHMARKS[args.benchmark].run(args)
    except (ValueError, FileNotFoundError, MissingExtraError) as error:
        print(f"{Path(sys.argv[0]).name} {args.benchmark}: {error}", file=sys.stderr)
        return 2
    print(render(findings))
    if args.json is not None:
        command = ["tools/benchmark.py", *(sys.argv[1:] if argv is None else argv)]
        write_findings(args.json, args.benchmark, findings, command, checkout)
    return 0 if findings.equal else 1


if __name__ == "__main__":
    sys.exit(main())
