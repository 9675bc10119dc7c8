#!/usr/bin/env python3
"""Train the networks that a YAML file names, one after the other, and put costs and scores of each into one table.

A run whose record is complete is not repeated, and an interrupted one goes on from its last checkpoint. The output
folder gets a folder for each run, ablation.json and table.md; with --json the record is written there too, from which
`tools/write_results.py` makes a section of RESULTS.md if it lies in results/ablations/.

Examples:
    python tools/ablate.py configs/ablations/decoders.yaml --dry-run
    python tools/ablate.py configs/ablations/decoders.yaml --jobs 2 --json results/ablations/decoders.json
    python tools/ablate.py configs/ablations/edge_heads.yaml --only hed light
"""

import argparse
import json
import signal
import sys
from pathlib import Path

import torch

from mtl_d2.comparison import (
    AblationRuns,
    Runs,
    describe_missing,
    new_ablation_findings,
    read_ablation,
    render_ablation,
)
from mtl_d2.engine.record import write_json

TRAIN = [sys.executable, str(Path(__file__).resolve().parent / "train_net.py")]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("ablation", type=Path, metavar="FILE", help="the YAML that describes the networks")
    result.add_argument("--output", type=Path, default=Path("output/ablations"), help="default: %(default)s")
    result.add_argument("--jobs", type=int, default=1, help="trainings beside each other (default: %(default)s)")
    result.add_argument("--only", nargs="+", default=[], metavar="NAME", help="train these variants alone")
    result.add_argument("--dry-run", action="store_true", help="list what would be run, and about how long")
    result.add_argument(
        "--rounds", type=int, default=6, help="of the timing of inference; 0 to measure no costs (default: %(default)s)"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="write the record there too")
    return result


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that trainings are ended too
    try:
        if args.jobs < 1 or args.rounds < 0 or args.rounds == 1:
            raise ValueError(
                f"--jobs {args.jobs} --rounds {args.rounds}: expected 1 or more jobs, 0 or 2 or more rounds"
            )
        ablation = read_ablation(args.ablation)
        folder = args.output / ablation.name
        runs = AblationRuns(ablation, Runs(folder / "runs", TRAIN), args.only)
    except (ValueError, FileNotFoundError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    if args.dry_run:
        print(describe_missing(runs.runs, runs.wanted(), args.jobs))
        return 0
    failed = runs.carry_out(args.jobs)
    torch.set_num_threads(ablation.threads)
    findings = new_ablation_findings(runs, runs.costs(args.rounds), failed, ["tools/ablate.py", *words])
    for path in filter(None, (args.json, folder / "ablation.json")):
        write_json(path, findings)
    table = render_ablation(json.loads(path.read_text(encoding="utf-8")))
    (folder / "table.md").write_text(table, encoding="utf-8")
    print(table)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
