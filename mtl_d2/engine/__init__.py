"""Training and evaluation: the trainer, its processes, checkpoints, and runs from a config."""

from .checkpoint import LoadReport, MultiTaskCheckpointer, load_weights
from .defaults import setup, setup_cfg
from .evaluation import evaluate
from .launch import create_ddp, launch
from .optimizer import build_optimizer
from .run import train
from .trainer import MultiTaskTrainer

__all__ = [
    "LoadReport",
    "MultiTaskCheckpointer",
    "MultiTaskTrainer",
    "build_optimizer",
    "create_ddp",
    "evaluate",
    "launch",
    "load_weights",
    "setup",
    "setup_cfg",
    "train",
]
