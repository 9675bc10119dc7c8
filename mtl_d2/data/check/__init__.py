"""Everything that can be wrong with a dataset is found before a training run is wasted on it."""

from ..faults import Fault
from .dataset import DatasetReport, check_dataset
from .duplicates import near_duplicates
from .statistics import DatasetStatistics
from .suggestions import Suggestion, suggest

__all__ = [
    "DatasetReport",
    "DatasetStatistics",
    "Fault",
    "Suggestion",
    "check_dataset",
    "near_duplicates",
    "suggest",
]
