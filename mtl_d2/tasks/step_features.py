"""What each branch of a network reads in a step: the backbone's features, and what other branches make of them."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from .base import Features, TaskBranch


class StepFeatures:
    """Features by task, over all images of a step. What one branch gives others is made once, when it is first read.

    Args:
        branches: of the network, by task.
        read_from: for each task those whose features its branch reads, see :func:`givers`.
        prepare: gives what a task's branch reads of the backbone.
        images: (N, 3, H, W), normalised and padded.

    Attributes:
        is_shared: whether branches give each other features, so that their losses have a part of the graph in common.
    """

    def __init__(
        self,
        branches: Mapping[str, TaskBranch],
        read_from: Mapping[str, Sequence[str]],
        prepare: Callable[[str], Features],
        images: Tensor,
    ) -> None:
        self._branches = branches
        self._prepare = prepare
        self._images = images
        self._giver_of = {name: task for task, branch in branches.items() for name in branch.gives}
        self._givers = {giver for read in read_from.values() for giver in read}
        self._read: dict[str, dict[str, Tensor]] = {}
        self._given: dict[str, dict[str, Tensor]] = {}
        self.is_shared = bool(self._givers)

    def of(self, task: str) -> dict[str, Tensor]:
        """What a branch reads; and what it gives, if any other reads it, so that it is not made twice."""
        return {**self._read_by(task), **(self._given_by(task) if task in self._givers else {})}

    def _read_by(self, task: str) -> dict[str, Tensor]:
        if task not in self._read:
            given = {name: self._given_by(self._giver_of[name])[name] for name in self._branches[task].reads}
            self._read[task] = {**self._prepare(task), **given}
        return self._read[task]

    def _given_by(self, task: str) -> dict[str, Tensor]:
        if task not in self._given:
            self._given[task] = self._branches[task].shared_features(self._read_by(task), self._images)
        return self._given[task]


def givers(branches: Mapping[str, TaskBranch]) -> dict[str, list[str]]:
    """For each task those whose features its branch reads.

    Raises:
        ValueError: nobody gives what a branch reads, or branches wait for each other's features.
    """
    giver_of = {name: task for task, branch in branches.items() for name in branch.gives}
    found = {}
    for task, branch in branches.items():
        missing = [name for name in branch.reads if name not in giver_of]
        if missing:
            raise ValueError(
                f"task {task!r} reads {missing[0]!r}, which none of {sorted(branches)} gives: add the task that does "
                "to MODEL.MTL.TASKS (of one MultiTaskFPN: separate networks give each other nothing) with a head that "
                "does, such as MultiTaskSemSegFPNHead, or choose a head that needs nothing of others."
            )
        found[task] = list(dict.fromkeys(giver_of[name] for name in branch.reads))
    _check_order(found)
    return found


def _check_order(read: Mapping[str, list[str]]) -> None:
    done: set[str] = set()
    while ready := [task for task in read if task not in done and done.issuperset(read[task])]:
        done.update(ready)
    if len(done) < len(read):
        waiting = ", ".join(task for task in read if task not in done)
        raise ValueError(f"the tasks {waiting} wait for each other's features: choose a head that does without.")
