"""From the splits of a published dataset to a folder with descriptions that mtl_d2 reads.

Of each split: ``<split>.yaml`` (the description), ``<split>.txt`` (its images), ``instances_<split>.json``,
``semantic/<split>/`` and ``edges/<split>/``, as far as it has such labels. The description is written last.
"""

import functools
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import cv2
import yaml
from tqdm import tqdm

from mtl_d2._orphans import end_with_parent
from mtl_d2.data.converters.describe import describe
from mtl_d2.data.converters.image import convert_image
from mtl_d2.data.converters.journal import Entry, Journal, check_recipe
from mtl_d2.data.converters.split import Item, Split
from mtl_d2.data.schema import DatasetError

_CHUNK = 8  # images that a process takes at a time


def write_splits(
    splits: Iterable[Split], output: Path, recipe: dict[str, Any], *, jobs: int = 1, copy: bool = False
) -> dict[str, int]:
    """Convert the splits into ``output``; interrupted, the same call goes on.

    Args:
        splits: what to convert.
        output: a folder, made if it does not exist.
        recipe: what else determines the files; a split that was made with another one is refused.
        jobs: processes; the files do not depend on it.
        copy: copy the images to ``images/<split>/`` instead of referring to where they are.

    Returns:
        The number of images by split, of those that were converted now: a split that is there is kept.

    Raises:
        DatasetError: the input is not as published, or ``output`` holds something else.
    """
    todo = []
    for split in splits:
        of_split = {**recipe, "split": split.name, "copy": copy}
        if not _is_done(split, output, of_split):
            _check(split)
            todo.append((split, Journal(output / f"{split.name}.partial.jsonl", of_split)))
    for split, journal in todo:
        output.mkdir(parents=True, exist_ok=True)
        _convert(split, output, journal, jobs, copy)
    return {split.name: len(split.items) for split, _ in todo}


def _is_done(split: Split, output: Path, recipe: dict[str, Any]) -> bool:
    description = output / f"{split.name}.yaml"
    if description.exists():
        first = description.read_text().partition("\n")[0].removeprefix("# ")
        check_recipe(description, json.loads(first) if first.startswith("{") else {}, recipe)
        return True
    if (output / f"{split.name}.partial.jsonl").exists():
        return False
    folders = [output / kind / split.name for kind in ("semantic", "edges", "images")]
    for path in (output / f"instances_{split.name}.json", output / f"{split.name}.txt", *folders):
        if path.exists():
            raise DatasetError(f"{path}: is there already, and is never overwritten; choose another --output.")
    return False


def _check(split: Split) -> None:
    split.schema()
    if not split.items:
        raise DatasetError(f"{split.images}: found no image of the split '{split.name}'; see docs/datasets.md.")
    names: dict[str, str] = {}
    for item in split.items:
        stem = os.path.splitext(item.file_name)[0]
        if stem in names:
            raise DatasetError(
                f"{split.images}: found {names[stem]} and {item.file_name}, expected names that differ before "
                "their ending, after which the labels are called; rename one."
            )
        names[stem] = item.file_name


def _convert(split: Split, output: Path, journal: Journal, jobs: int, copy: bool) -> None:
    done = journal.open()
    items = [item for item in split.items if item.file_name not in done]
    convert = functools.partial(
        convert_image, read=split.read, images=Path(split.images), output=output, split=split.name, copy=copy
    )
    with tqdm(total=len(split.items), initial=len(done), desc=split.name, unit="image", disable=None) as bar:
        journal.extend(_counted(_map(convert, items, jobs), bar))
    labelled = _write_instances(split, output, journal)
    _write(output / f"{split.name}.txt", lambda file: _write_lines(file, (e["image"]["file_name"] for e in journal)))
    content = describe(split, output, instances=labelled, copied=copy)
    text = f"# {json.dumps(journal.recipe)}\n{yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)}"
    _write(output / f"{split.name}.yaml", lambda file: file.write(text))
    journal.path.unlink()


def _map(convert: functools.partial, items: list[Item], jobs: int) -> Iterator[Entry]:
    if jobs <= 1:
        yield from map(convert, items)
        return
    cv2.setNumThreads(0)  # here and not in the workers: a forked process hangs when it ends threads it never had
    with ProcessPoolExecutor(jobs, initializer=end_with_parent) as pool:
        yield from pool.map(convert, items, chunksize=_CHUNK)


def _counted(entries: Iterator[Entry], bar: tqdm) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        bar.update()


def _write_instances(split: Split, output: Path, journal: Journal) -> bool:
    """Write the json entry by entry: the annotations of a large set together would fill the memory."""
    if not split.things or all(entry["annotations"] is None for entry in journal):
        return False
    labelled = (entry for entry in journal if entry["annotations"] is not None)
    images = (entry["image"] for entry in labelled)
    categories = [{"id": i, "name": split.things[i]} for i in sorted(split.things)]

    def write(file: TextIO) -> None:
        file.write('{"categories": ' + json.dumps(categories) + ',\n"images": [\n')
        _write_list(file, images)
        file.write('],\n"annotations": [\n')
        _write_list(file, _numbered(journal))
        file.write("]}\n")

    _write(output / f"instances_{split.name}.json", write)
    return True


def _numbered(journal: Journal) -> Iterator[dict[str, Any]]:
    number = 0
    for entry in journal:
        for annotation in entry["annotations"] or ():
            number += 1
            yield {"id": number, "image_id": entry["image"]["id"], **annotation}


def _write_list(file: TextIO, items: Iterable[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write((",\n" if number else "") + json.dumps(item))


def _write_lines(file: TextIO, lines: Iterable[str]) -> None:
    file.writelines(f"{line}\n" for line in lines)


def _write(path: Path, write: Any) -> None:
    """The file is whole or not there."""
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "w") as file:
        write(file)
    os.replace(partial, path)
