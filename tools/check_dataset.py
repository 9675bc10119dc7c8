#!/usr/bin/env python
"""Find everything that is wrong with datasets before a training run is wasted on them.

    python tools/check_dataset.py nuclei_train nuclei_val
    python tools/check_dataset.py pets_train.yaml --output output/pets --json output/pets/faults.json
    python tools/check_dataset.py pets_train.yaml --fix datasets/pets_fixed

Opens and decodes every image and label, checks every annotation, lists all faults by file, measures what is there, and
suggests anchors and sizes. Images that look alike, within a dataset and across several, are warned of. The exit status
is 1 where there is an error (with --strict: a warning), 2 where nothing could be checked.
"""

import argparse
import json
import sys
from pathlib import Path

from detectron2.data import MetadataCatalog
from PIL import Image

import mtl_d2  # noqa: F401  registers the datasets
from mtl_d2.data import DatasetError
from mtl_d2.data.check import DatasetReport, Fault, check_dataset, near_duplicates, suggest
from mtl_d2.data.check.fix import fix_dataset, require_new_folder
from mtl_d2.data.check.text import render_faults, render_statistics
from mtl_d2.data.datasets.register_description import resolve_dataset
from mtl_d2.data.images import read_image
from mtl_d2.evaluation.edge_ground_truth import ground_truth_edges
from mtl_d2.visualization.dataset_overview import draw_dataset_overview, spread


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="a registered name, or a description (YAML)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: one a core; 0: this one alone)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write faults, statistics and suggestions as json")
    parser.add_argument("--output", type=Path, metavar="DIR", help="draw DIR/DATASET/overview.png: histograms, samples")
    parser.add_argument("--samples", type=int, default=6, metavar="N", help="images drawn (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="faults printed a dataset (default: 50)")
    parser.add_argument("--input-size", type=int, nargs=2, metavar=("SHORT", "LONG"), help="that anchors are meant for")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--no-duplicates", action="store_true", help="do not look for images that look alike")
    parser.add_argument("--fix", type=Path, metavar="DIR", help="write corrected copies to new folders DIR/DATASET")
    parser.add_argument("--copy", action="store_true", help="with --fix: copy files (default: link them)")
    args = parser.parse_args()
    for name, least in (("jobs", 0), ("samples", 0), ("limit", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f"--{name} {value}: expected {least} or more")
    if args.input_size and not 0 < args.input_size[0] <= args.input_size[1]:
        parser.error(f"--input-size {args.input_size}: expected SHORT above 0 and LONG not below it")
    return args


def check(args: argparse.Namespace, name: str) -> DatasetReport:
    """Check one dataset and print what was found."""
    report = check_dataset(name, jobs=args.jobs, progress=True)
    print(f"== {name}\n{render_faults(report.faults, args.limit)}\n{render_statistics(report.statistics)}")
    print("\n".join(f"  {suggestion}" for suggestion in suggest(report.statistics, args.input_size)))
    if args.output is not None:
        records = spread(report.sound_records, args.samples)
        (args.output / name).mkdir(parents=True, exist_ok=True)
        picture = draw_dataset_overview(
            records,
            MetadataCatalog.get(name),
            report.statistics.histograms(),
            read_image=read_image,
            read_edges=ground_truth_edges,
        )
        Image.fromarray(picture).save(args.output / name / "overview.png")
    return report


def fix(args: argparse.Namespace, report: DatasetReport) -> None:
    """Write the corrected copy, and say what was done and what remains."""
    fixed = fix_dataset(report, args.fix / report.name, copy=args.copy)
    print(f"== corrected copy of {report.name}: {args.fix / report.name}, described by {fixed.description}")
    print("\n".join(f"  {what}: {count}" for what, count in fixed.done.items()) or "  nothing to correct")
    remaining = check_dataset(fixed.name, jobs=args.jobs, progress=True).faults
    print(f"What remains:\n{render_faults(remaining, args.limit)}")


def write_json(path: Path, reports: list[DatasetReport], alike: list[Fault], args: argparse.Namespace) -> None:
    datasets = {
        report.name: {
            "faults": [fault.to_dict() for fault in report.faults],
            "statistics": report.statistics.to_dict(),
            "suggestions": [s._asdict() for s in suggest(report.statistics, args.input_size)],
        }
        for report in reports
    }
    content = {"datasets": datasets, "near_duplicates": [fault.to_dict() for fault in alike]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def run(args: argparse.Namespace) -> int:
    names = [resolve_dataset(dataset) for dataset in dict.fromkeys(args.datasets)]
    if args.fix is not None:
        require_new_folder(args.fix)
    reports: list[DatasetReport] = []
    for name in names:
        reports.append(check(args, name))
        if args.json is not None:  # whatever comes of the next one
            write_json(args.json, reports, [], args)
    alike = [] if args.no_duplicates else near_duplicates([image for report in reports for image in report.images])
    if not args.no_duplicates:
        print(f"== images that look alike\n{render_faults(alike, args.limit)}")
    if args.json is not None:
        write_json(args.json, reports, alike, args)
    for report in reports if args.fix is not None else []:
        fix(args, report)
    faults = [*alike, *(fault for report in reports for fault in report.faults)]
    return int(any(args.strict or not fault.is_warning for fault in faults))


def main() -> int:
    args = parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        return run(args)
    except DatasetError as error:
        print(f"check_dataset.py: {error}", file=sys.stderr)
    except OSError as error:
        print(f"check_dataset.py: {error.filename}: cannot be written ({error.strerror})", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
