"""A task that trains others, and answers nothing itself."""

from collections.abc import Mapping
from typing import Any, NoReturn

from detectron2.config import CfgNode

from .base import Features, TaskBatch, TaskBranch


class AuxiliaryTask(TaskBranch):
    """Losses with an entry of their own in the balance and in the log; no output, no metric, no evaluator."""

    output_key = ""
    metric = ""

    def inference(self, features: Features, batch: TaskBatch, outputs: Mapping[str, list]) -> NoReturn:
        raise NotImplementedError(f"task {self.name!r} has no answer")

    def postprocess(self, output: Any, image_size: tuple[int, int], height: int, width: int) -> NoReturn:
        raise NotImplementedError(f"task {self.name!r} has no answer")

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None) -> NoReturn:
        raise NotImplementedError(f"task {cls.name!r} has no answer")
