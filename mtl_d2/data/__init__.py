"""From datasets to the model's batches."""

from .build import build_multitask_test_loader, build_multitask_train_loader, get_records
from .mapper import BrokenSampleError, MultiTaskDatasetMapper
from .sampler import MultiTaskBatchSampler

__all__ = [
    "BrokenSampleError",
    "MultiTaskBatchSampler",
    "MultiTaskDatasetMapper",
    "build_multitask_test_loader",
    "build_multitask_train_loader",
    "get_records",
]
