"""Training and evaluation: the trainer, its processes, checkpoints, and runs from a config."""

from .checkpoint import LoadReport, MultiTaskCheckpointer, load_weights
from .launch import create_ddp
from .optimizer import build_optimizer
from .trainer import MultiTaskTrainer

__all__ = [
    "LoadReport",
    "MultiTaskCheckpointer",
    "MultiTaskTrainer",
    "build_optimizer",
    "create_ddp",
    "load_weights",
]
