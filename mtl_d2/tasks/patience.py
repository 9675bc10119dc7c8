"""A task that never sees a label is told of, instead of being trained on nothing."""

from collections.abc import Iterable

from .scales import LabelScales


class UnlabelledTaskError(RuntimeError):
    """A task sees no labels, so that nothing is trained of it; the message says what to do."""


class LabelPatience:
    """Counts for each task the steps in a row in which no image of any rank had its labels.

    Args:
        tasks: their names.
        limit: so many steps end the training; 0 for none.

    Attributes:
        steps: ``{task: steps without a label}``.
    """

    def __init__(self, tasks: Iterable[str], limit: int) -> None:
        self.limit = limit
        self.steps = dict.fromkeys(tasks, 0)

    def update(self, active: Iterable[str], scales: LabelScales) -> None:
        """Count a step, for the tasks that are active in it.

        Raises:
            UnlabelledTaskError: one has seen no label for ``limit`` steps.
        """
        for task in active:
            self.steps[task] = 0 if scales[task,] else self.steps[task] + 1
            if 0 < self.limit <= self.steps[task]:
                raise UnlabelledTaskError(
                    f"task {task!r} has seen no label for {self.limit} batches in a row: drop it from "
                    "MODEL.MTL.TASKS, add a dataset with its labels to DATASETS.TRAIN, or raise "
                    "MODEL.MTL.LABEL_PATIENCE"
                )
