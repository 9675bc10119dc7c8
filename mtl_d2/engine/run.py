"""A run from a yaml config: train, evaluate, and leave a record of both."""

import logging
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.evaluation import inference_on_dataset, print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from torch import nn

from ..data.build import build_multitask_test_loader, build_multitask_train_loader
from ..data.validate import preflight
from .checkpoint import MultiTaskCheckpointer
from .hooks import BestCheckpointer, build_progress_hooks
from .launch import create_ddp, unwrap
from .optimizer import build_gradient_clipper, build_optimizer
from .trainer import MultiTaskTrainer

logger = logging.getLogger(__name__)

LOG_PERIOD = 20  # iterations between two readings of the losses; each waits for the GPU


@dataclass
class Evaluation:
    """The outcome of :func:`evaluate_datasets`.

    Attributes:
        results: ``{group: {figure: value}}``, under the name of the dataset where there are several; {} except on rank 0.
        images: ``{task: number of images that it was scored on}``, keyed likewise.
        seconds: wall time.
    """

    results: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    images: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
