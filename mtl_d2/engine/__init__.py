"""Training and evaluation: the trainer, its processes, checkpoints, and runs from a config."""

from .checkpoint import LoadReport, MultiTaskCheckpointer, load_weights
from .class_weights import with_class_weights
from .command_line import main
from .defaults import setup, setup_cfg
from .ema import ModelEma
from .evaluation import evaluate
from .launch import create_ddp, launch
from .mapper import build_train_mapper
from .optimizer import build_optimizer
from .run import train
from .task_schedule import TaskSchedule
from .task_schedule_hook import TaskScheduleHook
from .trainer import MultiTaskTrainer

__all__ = [
    "LoadReport",
    "ModelEma",
    "MultiTaskCheckpointer",
    "MultiTaskTrainer",
    "TaskSchedule",
    "TaskScheduleHook",
    "build_optimizer",
    "build_train_mapper",
    "create_ddp",
    "evaluate",
    "launch",
    "load_weights",
    "main",
    "setup",
    "setup_cfg",
    "train",
    "with_class_weights",
]
