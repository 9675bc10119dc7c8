"""Hooks of a training run that Detectron2 does not have, or not quite."""

import logging
import math
import sys

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from tqdm import tqdm

from .checkpoint import MultiTaskCheckpointer

logger = logging.getLogger(__name__)

_BEST = "model_best"
_NO_RESULTS = ("task/", "balance/", "balancer/", "cosine/", "active/", "lr/")


class BestCheckpointer(HookBase):
    """Keep the weights with the best validation figure as ``model_best.pth``.

    Register it after the hook that evaluates, on the main process. Other than Detectron2's, it remembers the
    best figure when a run is resumed, and does not make ``--resume`` go back to the best weights.

    Args:
        period: of the evaluation, in iterations; 0 for at the end only.
        metric: such as "segm/AP".
        higher_is_better: False where the best value is the lowest.
    """

    def __init__(
        self, period: int, checkpointer: MultiTaskCheckpointer, metric: str, *, higher_is_better: bool = True
    ) -> None:
        self.period = period
        self.checkpointer = checkpointer
        self.metric = metric
        self.higher_is_better = higher_is_better
        self.best: tuple[float, int] | None = None

    def before_train(self) -> None:
        figure = self.checkpointer.read_figure(_BEST)
        # Read from the file, not from the trainer's state: a checkpoint is older than the evaluation that
        # follows it.
        if self.trainer.start_iter > 0 and figure and figure["metric"] == self.metric:
            self.best = (figure["value"], figure["iteration"])

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.period > 0 and done % self.period == 0 and done != self.trainer.max_iter:
            self._compare()

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:  # not after a failure
            self._compare()

    def _compare(self) -> None:
        scalars = self.trainer.storage.latest()
        if self.metric not in scalars:
            known = sorted(name for name in scalars if "/" in name and not name.startswith(_NO_RESULTS))
            logger.error(
                "SOLVER.MTL.BEST_METRIC is %r, which the evaluation did not give (it gave %s): "
                "model_best.pth is not written.",
                self.metric,
                known,
            )
            return
        value = scalars[self.metric][0]
        if math.isfinite(value) and self._is_best(value):
            self.best = (value, self.trainer.iter)
            figure = {"metric": self.metric, "value": value, "iteration": self.trainer.iter}
            self.checkpointer.save_weights(_BEST, figure=figure)
            logger.info("Best %s so far: %.4f after iteration %d", self.metric, *self.best)

    def _is_best(self, value: float) -> bool:
        if self.best is None:
            return True
        return value > self.best[0] if self.higher_is_better else value < self.best[0]


class ProgressBar(HookBase):
    """A bar with the loss and the remaining time, for a person at a terminal."""

    bar: tqdm | None = None

    def before_train(self) -> None:
        self.bar = tqdm(total=self.trainer.max_iter, initial=self.trainer.start_iter, unit="step", dynamic_ncols=True)

    def after_step(self) -> None:
        assert self.bar is not None, "before_train comes first"
        loss = self.trainer.storage.latest().get("total_loss")
        if loss is not None:
            self.bar.set_postfix(loss=f"{loss[0]:.4g}", refresh=False)
        self.bar.update()

    def after_train(self) -> None:
        if self.bar is not None:  # None where another hook failed before the first step
            self.bar.close()


def build_writers(output_dir: str, max_iter: int, *, printer: bool = True) -> list[EventWriter]:
    """Detectron2's writers: lines in the log (if ``printer``), and two files in ``output_dir``.

    The printer shows the scalars with "loss" in their names; metrics.json and TensorBoard's events hold all.
    """
    # The losses that the trainer writes are means of a period: the printer's own median over 20 of them would
    # lag.
    lines = [CommonMetricPrinter(max_iter, window_size=1)] if printer else []
    return [*lines, JSONWriter(f"{output_dir}/metrics.json"), TensorboardXWriter(output_dir)]


def build_progress_hooks(output_dir: str, max_iter: int, period: int) -> list[HookBase]:
    """What reports on a run, on the main process: a bar on a terminal, else lines in a log, and the files."""
    if not comm.is_main_process():
        return []
    terminal = sys.stderr.isatty()
    bar = [ProgressBar()] if terminal else []
    return [
        *bar,
        hooks.PeriodicWriter(build_writers(output_dir, max_iter, printer=not terminal), period=period),
    ]
