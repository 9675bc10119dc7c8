"""report.json of a run, written so that nothing that was computed is lost."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.utils import comm

from .evaluation import Evaluation
from .launch import unwrap
from .parts import count_parameters
from .record import PACKAGE_DIR, git_state, new_record, write_record
from .trainer import MultiTaskTrainer, peak_memory_mib


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Writes the records of a run; every rank calls, the main process writes.

    Attributes:
        output_dir: where report.json goes.
        seed, device: of the run.
        config, overrides: where its settings came from: a file, and KEY VALUE words.
        checkout: commit, and whether there were changes, when the run began: the code that is in memory.
    """

    output_dir: str
    seed: int
    device: str
    config: str = ""
    overrides: Sequence[str] = field(default_factory=tuple)
    checkout: tuple[str | None, bool] = field(default_factory=lambda: git_state(PACKAGE_DIR))

    def write(
        self,
        evaluation: Evaluation,
        *,
        iterations: int,
        train_seconds: float,
        skipped_images: dict[str, int] | None = None,
        parameters: dict[str, int] | None = None,
        name: str = "report.json",
    ) -> None:
        """Write ``output_dir/name``; groups of several test sets are named ``dataset/group``."""
        peak = peak_memory_mib(self.device)
        if not comm.is_main_process():
            return
        record = new_record(
            results=evaluation.joined(evaluation.results),
            images=evaluation.joined(evaluation.images),
            config=self.config,
            overrides=[str(word) for word in self.overrides],
            seed=self.seed,
            iterations=iterations,
            seconds={"train": train_seconds, "eval": evaluation.seconds},
            device=self.device,
            peak_memory_mib=peak,
            skipped_images=skipped_images,
            parameters=parameters,
            checkout=self.checkout,
        )
        write_record(os.path.join(self.output_dir, name), record)


class ReportedEvaluation:
    """Evaluates a training; its record is written before, so that one that fails is recorded too, and after.

    Attributes:
        evaluate: None where nothing is to be evaluated on.
        last: what was found last.
    """

    def __init__(
        self, report: RunReport, trainer: MultiTaskTrainer, max_iter: int, evaluate: Callable[[], Evaluation] | None
    ) -> None:
        self.report = report
        self.trainer = trainer
        self.max_iter = max_iter
        self.evaluate = evaluate
        self.last = Evaluation()

    def __call__(self) -> dict[str, Any]:
        """Return ``{group: {figure: value}}``, {} where there is nothing to evaluate on."""
        self._write(Evaluation())
        if self.evaluate is not None:
            self.last = self.evaluate()
            self._write(self.last)
        return self.last.results

    def _write(self, evaluation: Evaluation) -> None:
        self.report.write(
            evaluation,
            iterations=min(self.trainer.iter + 1, self.max_iter),
            train_seconds=self.trainer.seconds,
            skipped_images=dict(self.trainer.skipped_images),
            parameters=count_parameters(unwrap(self.trainer.model)),
        )
