"""What is wrong with a dataset, in parts that a person reads as a sentence and a program as fields."""

from dataclasses import asdict, dataclass
from typing import NamedTuple


class Problem(NamedTuple):
    """What one check found, of an item whose place the caller knows.

    Attributes:
        kind: one word for all faults of this sort, such as "box_outside".
        field: key of the record or of the json entry.
        found: the value; of a file as a whole, a phrase that follows its name ("is 20x20 pixels").
        expected: "" where ``found`` says it all.
        fix: what to do.
        is_warning: training works, but hardly as intended.
    """

    kind: str
    field: str
    found: str
    expected: str
    fix: str
    is_warning: bool = False


@dataclass(frozen=True)
class Fault:
    """A problem at its place; ``str`` gives one sentence. The fields are those of :class:`Problem`, and

    Attributes:
        file: the file that is at fault, or, of a record that no file holds, its image.
        item: which part of it, such as "annotation 3 of a.png"; "" for the file as a whole.
    """

    file: str
    item: str
    kind: str
    field: str
    found: str
    expected: str
    fix: str
    is_warning: bool = False

    @classmethod
    def at(cls, problem: Problem, file: str, item: str = "") -> "Fault":
        """The problem at a place."""
        return cls(file, item, *problem)

    def __str__(self) -> str:
        if self.item:
            return f"{self.item}: '{self.field}': found {self._rest()}"
        return f"'{self.field}': {self.file} {self._rest()}"

    def line(self) -> str:
        """The sentence without the name of the file, for a list below it."""
        if self.item:
            return f"{self.item}, {self.field}: found {self._rest()}"
        return f"{self.field}: {self._rest()}"

    def to_dict(self) -> dict[str, str | bool]:
        """The fields, for json."""
        return asdict(self)

    def _rest(self) -> str:
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.found}{expected}; {self.fix}."
