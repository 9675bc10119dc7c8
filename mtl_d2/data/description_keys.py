"""Values of a dataset description, each checked as it is taken: an error names file, key, found, expected and fix."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .schema import DatasetError

DATASETS_VARIABLE = "${DETECTRON2_DATASETS}"


class Keys:
    """One mapping of a description.

    Args:
        values: the mapping as it was read.
        known: the keys that it may have.
        source: the file, or the call, for messages.
        root: folder that relative paths start from.
        datasets_root: what ``${DETECTRON2_DATASETS}`` stands for.
        prefix: of the keys in messages, such as "semantic.".

    Raises:
        DatasetError: ``values`` is no mapping, or has an unknown key; every other method raises it for a bad value.
    """

    def __init__(
        self, values: Any, known: Sequence[str], *, source: str, root: str, datasets_root: str, prefix: str = ""
    ) -> None:
        self.source, self.root, self.datasets_root, self.prefix = source, root, datasets_root, prefix
        if not isinstance(values, Mapping):
            what = f"'{prefix.rstrip('.')}'" if prefix else "the file"
            raise DatasetError(
                f"{source}: {what}: found {values!r}, expected keys with values ({', '.join(known)}); write them as "
                "'key: value'."
            )
        self.values = dict(values)
        for key in self.values:
            if key not in known:
                raise DatasetError(f"{source}: '{prefix}{key}': found an unknown key, {did_you_mean(key, known)}")

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def error(self, key: str, found: Any, expected: str, fix: str) -> DatasetError:
        """The error of a value, to be raised."""
        return DatasetError(f"{self.source}: '{self.prefix}{key}': found {found!r}, expected {expected}; {fix}.")

    def missing(self, key: str, expected: str) -> DatasetError:
        """The error of a key that must be there, to be raised."""
        return DatasetError(f"{self.source}: '{self.prefix}{key}': missing, expected {expected}; add it.")

    def section(self, key: str, known: Sequence[str]) -> "Keys":
        """The mapping below a key."""
        prefix = f"{self.prefix}{key}."
        return Keys(
            self.values[key],
            known,
            source=self.source,
            root=self.root,
            datasets_root=self.datasets_root,
            prefix=prefix,
        )

    def text(self, key: str, expected: str) -> str:
        """A text that is not empty."""
        value = self.values.get(key)
        if value is None:
            raise self.missing(key, expected)
        if not isinstance(value, str) or not value:
            raise self.error(key, value, expected, "write it as text, in quotes if it looks like a number or a date")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of a few texts."""
        value = self.values[key]
        if value not in choices:
            raise self.error(key, value, f"one of {', '.join(choices)}", "take one of them")
        return value

    def integer(self, key: str, default: int) -> int:
        """An integer of 0 or more."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(key, value, "an integer of 0 or more", f"correct it, or leave it out for {default}")
        return value

    def names(self, key: str, expected: str) -> tuple[str, ...]:
        """A list of texts, each once."""
        value = self.values.get(key)
        if value is None:
            raise self.missing(key, expected)
        if not isinstance(value, list | tuple) or not value:
            raise self.error(key, value, expected, "write a list, [first, second]")
        for index, name in enumerate(value):
            if not isinstance(name, str) or not name:  # yes, no, on and numbers are not text in YAML
                raise self.error(f"{key}[{index}]", name, "a name", "write it in quotes")
            if name in value[:index]:
                raise self.error(f"{key}[{index}]", name, "each name once", "remove or rename one")
        return tuple(value)

    def renames(self, key: str) -> dict[str, str | None]:
        """A mapping of names to names, or to None."""
        value = self.values.get(key) or {}
        if not isinstance(value, Mapping):
            raise self.error(key, value, "{name here: name in the run, or null}", "write a mapping")
        for name, meant in value.items():
            if not isinstance(name, str) or not (meant is None or (isinstance(meant, str) and meant)):
                raise self.error(key, {name: meant}, "a name, and a name or null", "write names in quotes")
        return dict(value)

    def path(self, key: str, expected: str) -> str:
        """A path; relative ones start from the root and stay inside of it."""
        text = self.text(key, expected)
        root = self.root
        if text.startswith(DATASETS_VARIABLE):
            root, text = self.datasets_root, text.removeprefix(DATASETS_VARIABLE).lstrip("/")
        elif os.path.isabs(text):
            return os.path.normpath(text)
        if "${" in text:
            raise self.error(key, text, f"no variable but {DATASETS_VARIABLE} at the beginning", "write the path")
        path = os.path.normpath(os.path.join(root, text))
        if not is_inside(path, root) and path != os.path.normpath(root):
            fix = f"write an absolute path, or one that begins with {DATASETS_VARIABLE}"
            raise self.error(key, text, f"a path inside {root}", fix)
        return path


def is_inside(path: str, folder: str) -> bool:
    """Whether a path lies below a folder as it is written; links are not followed, they are the user's own."""
    folder, path = os.path.abspath(folder), os.path.abspath(path)
    return path != folder and os.path.commonpath([folder, path]) == folder


def relative_name(name: str, folder: str) -> str:
    """The name of a file relative to its folder, after which its labels are called; as it is where it leaves that.

    Args:
        name: relative to the folder, or absolute; ".." may be in it.
        folder: of the file.
    """
    path = os.path.join(folder, name)
    return os.path.relpath(path, folder) if is_inside(path, folder) else name


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """What was expected instead of an unknown name: the end of a message."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=2, cutoff=0.5)
    expected = f"expected one of {', '.join(known)}"
    return f"{expected}; did you mean {' or '.join(map(repr, near))}?" if near else f"{expected}; correct it."
