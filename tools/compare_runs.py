#!/usr/bin/env python
"""Compare joint networks with single-task references: several seeds, one table, one plot per metric.

A YAML file describes the comparison (configs/compare/ has examples): references of one task each, joint networks, a
grid of fixed weights, and what is searched on folds of the training images. A training is found again by its config,
seed and data, wherever it was used: an interrupted comparison goes on where it stopped, and nothing is run twice.

The table has each task beside its reference, delta_m with a bootstrap interval over images and seeds, training scores,
and costs. OUTPUT/NAME gets runs/, comparison.json, table.md and plots/.

Exit status: 0; 1 where a training failed; 2 for wrong input.

Examples:

  what would be run:        python tools/compare_runs.py configs/compare/shapes.yaml --dry-run
  two runs at a time:       python tools/compare_runs.py configs/compare/shapes.yaml --jobs 2
  a part, now:              python tools/compare_runs.py configs/compare/shapes.yaml --only instance joint_equal
  a first answer:           python tools/compare_runs.py configs/compare/shapes.yaml --seeds 1
  keep it for RESULTS.md:   python tools/compare_runs.py configs/compare/shapes.yaml --json results/compare/shapes.json
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch

import mtl_d2  # noqa: F401  registers networks and datasets
from mtl_d2.comparison import Campaign, Runs, describe_plan, new_findings, read_comparison, render_comparison
from mtl_d2.comparison.command_line import check_run_arguments, end_on_sigterm, run_parser, with_first_seeds
from mtl_d2.comparison.plots import draw_comparison
from mtl_d2.engine.record import write_json

TRAIN = [sys.executable, str(Path(__file__).resolve().parent / "train_net.py")]


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    args = run_parser(__doc__, file="the comparison", name="networks", output="output/compare").parse_args(words)
    end_on_sigterm()
    try:
        check_run_arguments(args)
        comparison = with_first_seeds(read_comparison(args.file), args.seeds)
        folder = args.output / comparison.name
        campaign = Campaign(comparison, Runs(folder / "runs", TRAIN), args.only)
        if args.dry_run:
            print(describe_plan(campaign, args.jobs))
            return 0
        found = campaign.carry_out(args.jobs)
    except (ValueError, FileNotFoundError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(comparison.threads)
    found = dataclasses.replace(found, costs=campaign.costs(found, args.rounds))
    findings = new_findings(found, ["tools/compare_runs.py", *words])
    for path in filter(None, (args.json, folder / "comparison.json")):
        write_json(path, findings)
    record = json.loads(path.read_text(encoding="utf-8"))
    table = render_comparison(record)
    (folder / "table.md").write_text(table, encoding="utf-8")
    draw_comparison(record, folder / "plots")
    print(table)
    return int(bool(found.failed))


if __name__ == "__main__":
    sys.exit(main())
