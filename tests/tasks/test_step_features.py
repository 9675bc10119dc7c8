"""What branches give each other: made once, when it is read, in the right order; impossible orders are refused."""

from collections import Counter
from typing import Any

import pytest
import torch

from mtl_d2.tasks import StepFeatures
from mtl_d2.tasks.step_features import givers

IMAGES = torch.zeros(2, 3, 4, 4)


class Giver:
    """Adds 1 to the sum of what it reads, for each name that it gives."""

    def __init__(self, gives: tuple[str, ...] = (), reads: tuple[str, ...] = ()) -> None:
        self.gives, self.reads, self.made = gives, reads, 0

    def shared_features(self, features: dict[str, torch.Tensor], images: torch.Tensor) -> dict[str, torch.Tensor]:
        assert images is IMAGES and not set(self.gives) & set(features)
        self.made += 1
        return {name: 1 + sum(features[key] for key in ("p2", *self.reads)) for name in self.gives}


def features_of(branches: dict[str, Any]) -> tuple[StepFeatures, Counter]:
    prepared: Counter = Counter()

    def prepare(task: str) -> dict[str, torch.Tensor]:
        prepared[task] += 1
        return {"p2": torch.ones(2, 1)}

    return StepFeatures(branches, givers(branches), prepare, IMAGES), prepared


def values(features: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in features.items()}


def test_each_is_made_once_and_the_giver_finds_it_too() -> None:
    branches = {
        "c": Giver(reads=("a2", "b")),
        "b": Giver(("b",), ("a1",)),
        "a": Giver(("a1", "a2")),
        "d": Giver(("x",)),
    }
    features, prepared = features_of(branches)
    assert features.is_shared
    for _ in range(2):
        assert values(features.of("c")) == {"p2": 1, "a2": 2, "b": 4}
        assert values(features.of("b")) == {"p2": 1, "a1": 2, "b": 4}
        assert values(features.of("a")) == {"p2": 1, "a1": 2, "a2": 2}
        assert values(features.of("d")) == {"p2": 1}  # nobody reads what it could give
    assert [branches[task].made for task in "abcd"] == [1, 1, 0, 0]
    assert set(prepared.values()) == {1}


def test_nothing_is_made_before_it_is_read() -> None:
    branches = {"a": Giver(("a",)), "b": Giver(reads=("a",)), "c": Giver()}
    features, prepared = features_of(branches)
    features.of("c")
    assert branches["a"].made == 0 and set(prepared) == {"c"}
    assert not features_of({"a": Giver(("a",)), "c": Giver()})[0].is_shared


def test_a_branch_knows_whose_features_it_reads() -> None:
    branches = {"c": Giver(reads=("a2", "a1", "b")), "b": Giver(("b",), ("a1",)), "a": Giver(("a1", "a2"))}
    assert givers(branches) == {"c": ["a", "b"], "b": ["a"], "a": []}


def test_what_nobody_gives_is_named() -> None:
    with pytest.raises(ValueError, match=r"task 'b' reads 'tower', which none of \['b', 'c'\] gives: add the task"):
        givers({"b": Giver(reads=("tower",)), "c": Giver()})


def test_branches_that_wait_for_each_other_are_refused() -> None:
    branches = {"a": Giver(("a",), ("b",)), "b": Giver(("b",), ("c",)), "c": Giver(("c",), ("a",)), "d": Giver(("d",))}
    with pytest.raises(ValueError, match="the tasks a, b, c wait for each other's features"):
        givers(branches)
