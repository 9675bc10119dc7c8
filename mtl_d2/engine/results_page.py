"""RESULTS.md from run records: one table per folder of records, and the table of disjoint labels."""

import dataclasses
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtl_d2.engine.disjoint_table import NAME as DISJOINT_NAME
from mtl_d2.engine.disjoint_table import render_disjoint
from mtl_d2.engine.record import RunRecord, read_record, shell_line, short_commit
from mtl_d2.engine.results_figures import FIGURES, Records, decimals_of, figures_of, markdown_table

_ON_TRAINING_IMAGES = re.compile(r" on \w+_train\b")  # how far they were learnt by heart, which is no result

_HEAD = """# Results

Written by `python tools/write_results.py` from the run records in `{folder}/`: run that again, do not edit.
AP, mIoU and PQ are percentages, edge figures lie between 0 and 1. ± is the sample standard deviation.
A commit with * had changes that were not committed.
"""


SUMMARY = tuple(figure for figure in FIGURES if figure.metric in ("AP50", "mIoU", "PQ", "ODS"))


def load_records(folder: Path) -> Records:
    """Every ``*.json`` in the folder and below, by its path without the ending, such as "shapes/joint".

    Those under ``ablations/``, ``benchmark/`` and ``compare/`` are of other kinds, see :mod:`mtl_d2.comparison` and
    :mod:`mtl_d2.benchmark.report`, and left out.
    """
    others = ("ablations", "benchmark", "compare")
    paths = sorted(path for path in folder.rglob("*.json") if path.relative_to(folder).parts[0] not in others)
    return {path.relative_to(folder).with_suffix("").as_posix(): read_record(path) for path in paths}


def split_test_sets(records: Records) -> Records:
    """Runs scored on several test sets, with groups named "dataset/group", as one record per test set."""
    result: Records = {}
    for name, record in records.items():
        datasets = {group.rpartition("/")[0] for group in record.results} - {""}
        if not datasets:
            result[name] = record
        for dataset in sorted(datasets):
            result[f"{name} on {dataset}"] = dataclasses.replace(
                record,
                results=_of_dataset(record.results, dataset),
                images=_of_dataset(record.images, dataset),
                overrides=[*record.overrides, "DATASETS.TEST", dataset],
            )
    return result


def _of_dataset(values: dict[str, Any], dataset: str) -> dict[str, Any]:
    prefix = f"{dataset}/"
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def render(records: Records, folder: str = "results") -> str:
    """The whole page as Markdown."""
    disjoint = {name: r for name, r in records.items() if DISJOINT_NAME.fullmatch(name)}
    families: dict[str, Records] = {}
    for name, record in records.items():
        if not DISJOINT_NAME.fullmatch(name):
            families.setdefault(name.rpartition("/")[0] or "other", {})[name] = record
    families = {family: split_test_sets(members) for family, members in families.items()}
    parts = [_HEAD.format(folder=folder)]
    parts += [_render_family(family, members) for family, members in sorted(families.items())]
    if disjoint:
        parts += [render_disjoint(disjoint), _commands(disjoint)]
    return "\n".join(parts)


def render_summary(records: Records) -> str:
    """The main figures of scored runs and their configs, in Markdown: on test sets, of runs without an own table."""
    shown = {
        name: record
        for name, record in split_test_sets(records).items()
        if not (DISJOINT_NAME.fullmatch(name) or _ON_TRAINING_IMAGES.search(name))
    }
    figures = [figure for figure in SUMMARY if any(figure.value(record) is not None for record in shown.values())]
    rows = [
        [
            name,
            f"`{os.path.normpath(record.config)}`",
            *(figure.text([record]) for figure in figures),
            f"{record.seconds['train']:.0f} s",
        ]
        for name, record in shown.items()
        if any(figure.value(record) is not None for figure in figures)
    ]
    header = ["record", "config", *(figure.title for figure in figures), "training"]
    return markdown_table(header, rows)


def replace_block(text: str, name: str, content: str) -> str:
    """``text`` with what stands between ``<!-- name -->`` and ``<!-- /name -->`` replaced.

    Raises:
        ValueError: the two marks are not there.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"expected a line {begin.strip()!r} and a line {end!r} around the block to be written.")
    head, rest = text.split(begin, 1)
    return head + begin + content + end + rest.split(end, 1)[1]


def seed_groups(records: Records) -> list[list[str]]:
    """Names of the records that share config and overrides but for the seed, where their seeds differ."""
    groups: dict[tuple, list[str]] = {}
    for name, record in records.items():
        groups.setdefault(_experiment(record), []).append(name)
    return [names for names in groups.values() if len({records[name].seed for name in names}) > 1]


def _experiment(record: RunRecord) -> tuple:
    """What was run, without the seed and the place of its output."""
    words = [part for word in record.overrides for part in word.split("=", 1)]
    pairs = zip(words[::2], words[1::2], strict=False)
    return (record.config, *((key, value) for key, value in pairs if key not in ("SEED", "OUTPUT_DIR")))


def _render_family(family: str, records: Records) -> str:
    figures = figures_of(records.values())
    header = [
        "record",
        "config",
        *(f.title for f in figures),
        "images",
        "device",
        "train s",
        "seed",
        "commit",
    ]
    rows = []
    for name, record in records.items():
        rows.append([name, Path(record.config).name, *(f.text([record]) for f in figures), *_run_cells(record)])
    for names in seed_groups(records):
        members = [records[name] for name in names]
        title = f"**mean of {len(names)}**: {', '.join(names)}"
        config = Path(members[0].config).name
        seeds = ", ".join(str(record.seed) for record in members)
        rows.append([title, config, *(f.text(members) for f in figures), "", "", "", seeds, ""])
    return f"## {family}\n\n{markdown_table(header, rows)}\n{_commands(records)}"


def _run_cells(record: RunRecord) -> list[str]:
    images = ", ".join(f"{task} {count}" for task, count in record.images.items())
    seconds = f"{record.seconds.get('train', 0):.0f}"
    return [images, record.device, seconds, str(record.seed), short_commit(record.commit, record.dirty)]


def _commands(records: Records) -> str:
    """A line for each run, which may stand in several rows."""
    names: dict[str, list[str]] = {}
    for name, record in records.items():
        about = f"{record.iterations} iterations, torch {record.torch}, detectron2 {record.detectron2}"
        line = f"({about}, {record.finished[:10]}): `{_readable(record.command)}`"
        names.setdefault(line, []).append(name)
    return "Produced by:\n\n" + "".join(f"- {', '.join(of)} {line}\n" for line, of in names.items())


def _readable(command: str) -> str:
    """The same command: of older records, without detours in paths and with fewer quotes."""
    return shell_line([os.path.normpath(word) if "/../" in word else word for word in shlex.split(command)])


def render_main_figures(record: RunRecord, table: Callable[..., str]) -> str:
    """One record for a terminal: every figure but those of single classes.

    Args:
        table: ``tabulate.tabulate`` or the like.
    """
    rows = [
        [group, metric, "undefined" if value != value else f"{value:.{decimals_of(group)}f}"]  # noqa: PLR0124
        for group, metrics in record.results.items()
        for metric, value in metrics.items()
        if "-" not in metric
    ]
    about = [
        ["config", record.config],
        ["images", ", ".join(f"{task} {count}" for task, count in record.images.items())],
        ["iterations", str(record.iterations)],
        ["seconds", ", ".join(f"{name} {value:.0f}" for name, value in record.seconds.items())],
        ["device", record.device],
        ["seed", str(record.seed)],
        ["commit", short_commit(record.commit, record.dirty)],
        ["command", record.command],
    ]
    return f"{table(rows, headers=['group', 'metric', 'value'])}\n\n{table(about, tablefmt='plain')}\n"
