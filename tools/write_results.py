#!/usr/bin/env python
"""Write RESULTS.md and the table in README.md from the records in results/, or look at and keep one run's record.

python tools/write_results.py                                    write both
python tools/write_results.py --check                            are they up to date?
python tools/write_results.py --print output/shapes_joint        show one run's figures
python tools/write_results.py --add output/shapes_joint --name shapes/joint
                                                                 keep the run, then write both
"""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

from mtl_d2.benchmark.page import render_section
from mtl_d2.comparison.ablation_page import render_ablations
from mtl_d2.comparison.page import render_comparisons
from mtl_d2.engine.record import read_json_folder, read_record, write_record
from mtl_d2.engine.results_page import load_records, render, render_main_figures, render_summary, replace_block

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results-dir", type=Path, default=ROOT / "results", help="folder of the records kept")
    parser.add_argument("--output", type=Path, default=ROOT / "RESULTS.md", help="the page")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="gets the table of main figures")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--print", type=Path, metavar="DIR", help="show DIR/report.json (or a record itself), write nothing"
    )
    action.add_argument("--add", type=Path, metavar="DIR", help="keep DIR/report.json as --name")
    action.add_argument("--check", action="store_true", help="exit with 1 where the page is out of date")
    parser.add_argument("--name", help="of the record kept, such as shapes/joint")
    args = parser.parse_args()
    if (args.add is None) != (args.name is None):
        parser.error("--add DIR and --name NAME go together")
    if args.name and (Path(args.name).is_absolute() or ".." in Path(args.name).parts):
        parser.error(f"--name {args.name}: expected a name below the results folder, such as shapes/joint")
    return args


def record_file(path: Path) -> Path:
    """The record of a run's output folder; a record itself stays as it is."""
    return path / "report.json" if path.is_dir() else path


def main() -> int:
    args = parse_args()
    if args.print:
        print(render_main_figures(read_record(record_file(args.print)), tabulate))
        return 0
    if args.add:
        write_record(args.results_dir / f"{args.name}.json", read_record(record_file(args.add)))
    records = load_records(args.results_dir)
    readme = args.readme.read_text(encoding="utf-8")
    pages = {
        args.output: render(records, args.results_dir.name)
        + render_ablations(read_json_folder(args.results_dir / "ablations"))
        + render_section(read_json_folder(args.results_dir / "benchmark"))
        + render_comparisons(read_json_folder(args.results_dir / "compare")),
        args.readme: replace_block(readme, "results", render_summary(records)),
    }
    if args.check:
        old = [path for path, page in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != page]
        for path in old:
            print(f"{path} is out of date: run python tools/write_results.py", file=sys.stderr)
        return int(bool(old))
    for path, page in pages.items():
        path.write_text(page, encoding="utf-8")
        print(f"Wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
