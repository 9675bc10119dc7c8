#!/usr/bin/env python3
"""Train the networks that a YAML file names, one after the other, and put costs and scores of each into one table.

A run whose record is complete is not repeated, and an interrupted one goes on from its last checkpoint. The output
folder gets a folder for each run, ablation.json and table.md; with --json the record is written there too, from which
`tools/write_results.py` makes a section of RESULTS.md if it lies in results/ablations/.

The YAML has a title, a config and seeds, and for each row of the table, under variants, what differs from the config:
keys with values, the name of another config, or both (config: FILE beside the keys). overrides hold for all rows;
columns name the figures that are shown ("TITLE: segm/AP-ring", a list for their mean) in the place of the main ones;
processes and threads are those of one training, and note stands above the table.

Examples:
    python tools/ablate.py configs/ablations/decoders.yaml --dry-run
    python tools/ablate.py configs/ablations/decoders.yaml --jobs 2 --json results/ablations/decoders.json
    python tools/ablate.py configs/ablations/edge_heads.yaml --only "HED head" "light head"
"""

import json
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
from mtl_d2.comparison.command_line import check_run_arguments, end_on_sigterm, run_parser, with_first_seeds
from mtl_d2.engine.record import write_json

TRAIN = [sys.executable, str(Path(__file__).resolve().parent / "train_net.py")]


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    args = run_parser(__doc__, file="the networks", name="variants", output="output/ablations").parse_args(words)
    end_on_sigterm()
    try:
        check_run_arguments(args)
        ablation = with_first_seeds(read_ablation(args.file), args.seeds)
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
