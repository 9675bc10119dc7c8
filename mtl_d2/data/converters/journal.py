"""What of a split is converted already, so that an interrupted conversion goes on where it was."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtl_d2.data.schema import DatasetError

Entry = dict[str, Any]


class Journal:
    """A file of one JSON object a line: what is made of what, then an entry per image.

    Args:
        path: of the file.
        recipe: what determines the result; a file of another recipe is refused.
    """

    def __init__(self, path: Path, recipe: dict[str, Any]) -> None:
        self.path, self.recipe = path, recipe

    def open(self) -> set[str]:
        """Begin the file, or cut off a last line that was not written to its end.

        Returns:
            The names of the images that have an entry.

        Raises:
            DatasetError: the file is of another recipe.
        """
        done = set()
        with open(self.path, "a+b") as file:
            file.seek(0)
            end = 0
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                if number == 0:
                    check_recipe(self.path, json.loads(line), self.recipe)
                else:
                    done.add(json.loads(line)["image"]["file_name"])
                end += len(line)
            file.truncate(end)
            if end == 0:
                file.write(_line(self.recipe))
        return done

    def extend(self, entries: Iterator[Entry]) -> None:
        """Write each entry as it comes; those before an error stay."""
        with open(self.path, "ab") as file:
            for entry in entries:
                file.write(_line(entry))

    def __iter__(self) -> Iterator[Entry]:
        with open(self.path, "rb") as file:
            next(file)
            for line in file:
                yield json.loads(line)


def check_recipe(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse to go on with, or to take for done, what was made otherwise.

    Raises:
        DatasetError: naming the keys that differ.
    """
    different = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
    if different:
        pairs = ", ".join(f"{key} {found.get(key)!r} (now {expected.get(key)!r})" for key in different)
        raise DatasetError(f"{path}: was made with {pairs}; remove what is there, or choose another --output.")


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
