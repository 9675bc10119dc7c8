"""Score a network on the test sets of a config."""

import logging
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, cast

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from torch import nn

from ..data import DatasetError
from ..data.build import build_multitask_test_loader
from ..data.labels import may_be_labelled, task_labels
from ..data.preflight import load_records
from ..evaluation import PanopticEvaluator
from ..tasks import TaskBranch
from .launch import share_buffers, unwrap

logger = logging.getLogger(__name__)


@dataclass
class Evaluation:
    """What :func:`evaluate_datasets` found; complete on rank 0.

    Attributes:
        results: ``{group: {figure: value}}``; with several test sets ``{dataset: {group: {figure: value}}}``.
        images: ``{task: number of images that were scored}``, nested likewise.
        seconds: of wall time.
        several: test sets were scored, and the two are nested.
    """

    results: dict[str, Any] = field(default_factory=OrderedDict)
    images: dict[str, Any] = field(default_factory=OrderedDict)
    seconds: float = 0.0
    several: bool = False

    def joined(self, groups: dict[str, Any]) -> dict[str, Any]:
        """``results`` or ``images`` with the groups of several test sets as ``dataset/group``."""
        if not self.several:
            return dict(groups)
        return {f"{outer}/{inner}": value for outer, group in groups.items() for inner, value in group.items()}


def evaluate(cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
    """Return ``{group: {figure: value}}`` on cfg.DATASETS.TEST; nested by dataset if there are several.

    Call it on every rank; the results are those of rank 0, {} elsewhere.

    Raises:
        DatasetError: cfg.DATASETS.TEST is empty.
    """
    return evaluate_datasets(cfg, model).results


def evaluate_datasets(cfg: CfgNode, model: nn.Module) -> Evaluation:
    """See :func:`evaluate`; with the number of images and the time."""
    names = require_test_sets(cfg)
    model = unwrap(model)
    share_buffers(model)
    start = time.perf_counter()
    evaluation = Evaluation(several=len(names) > 1)
    for name in names:
        evaluators = build_evaluators(cfg, model, name)
        loader = build_multitask_test_loader(cfg, name)
        results = inference_on_dataset(model, loader, DatasetEvaluators(list(evaluators.values())))
        if not comm.is_main_process():
            continue
        logger.info("Results on %s:", name)
        print_csv_format(results)
        evaluation.results[name] = results
        evaluation.images[name] = _images_scored(evaluators)
    if not evaluation.several and comm.is_main_process():
        evaluation.results, evaluation.images = evaluation.results[names[0]], evaluation.images[names[0]]
    evaluation.seconds = time.perf_counter() - start
    return evaluation


def require_test_sets(cfg: CfgNode) -> list[str]:
    """The names of cfg.DATASETS.TEST; DatasetError where there is none."""
    if not cfg.DATASETS.TEST:
        raise DatasetError("DATASETS.TEST is empty, so there is nothing to evaluate on: name a registered dataset.")
    return list(cfg.DATASETS.TEST)


def build_evaluators(cfg: CfgNode, model: nn.Module, dataset_name: str) -> dict[str, DatasetEvaluator]:
    """Return an evaluator for each task of the model that has an answer, and that the dataset has labels for.

    One for panoptic maps is among them if the model makes them and the dataset has instances and semantics.
    """
    output_dir = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    if comm.is_main_process():
        os.makedirs(output_dir, exist_ok=True)
    branches = cast(dict[str, TaskBranch], model.branches)
    records = load_records(dataset_name)  # which may fill in the metadata that evaluators read
    keys = task_labels(cfg)
    scored = [task for task, branch in branches.items() if branch.output_key]
    labelled = [task for task in scored if any(may_be_labelled(record, [task], keys) for record in records)]
    if len(labelled) < len(scored):
        unlabelled = sorted(set(scored) - set(labelled))
        logger.info("%s has no labels for %s, which are not scored on it", dataset_name, ", ".join(unlabelled))
    evaluators: dict[str, DatasetEvaluator] = {
        task: branches[task].build_evaluator(cfg, dataset_name, output_dir) for task in labelled
    }
    if getattr(model, "panoptic", None) is not None and {"instance", "sem_seg"} <= set(labelled):
        evaluators["panoptic_seg"] = PanopticEvaluator(dataset_name, output_dir=output_dir)
    return evaluators


def _images_scored(evaluators: dict[str, DatasetEvaluator]) -> dict[str, int]:
    """Images by task; beside "instance" those that were scored for masks, where others have boxes alone."""
    images = {task: evaluator.num_images for task, evaluator in evaluators.items()}
    for task, evaluator in evaluators.items():
        with_masks = getattr(evaluator, "num_mask_images", 0)
        if with_masks not in (0, images[task]):
            images[f"{task} masks"] = with_masks
    return images
