"""A toy dataset, a tiny config and random model inputs, for tests only."""

from .inputs import random_batched_inputs
from .tiny_config import tiny_cfg
from .toy_dataset import toy_dataset
from .toy_labels import ALL_TASKS, TOY_KEYPOINTS, TOY_SIGMAS, TOY_STUFF_CLASSES, TOY_STUFF_IDS, TOY_THING_CLASSES

__all__ = [
    "ALL_TASKS",
    "TOY_KEYPOINTS",
    "TOY_SIGMAS",
    "TOY_STUFF_CLASSES",
    "TOY_STUFF_IDS",
    "TOY_THING_CLASSES",
    "random_batched_inputs",
    "tiny_cfg",
    "toy_dataset",
]
