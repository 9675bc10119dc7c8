"""Dataset schema, registration and synthetic scenes; from a record to the model's batches."""

from .build import build_multitask_test_loader, build_multitask_train_loader, get_records
from .datasets import (
    load_coco_multitask,
    register_all,
    register_coco_multitask,
    register_dataset,
    register_description,
    register_multitask_dataset,
    resolve_dataset,
    resolve_datasets,
)
from .images import BrokenSampleError
from .mapper import MultiTaskDatasetMapper
from .preflight import load_records, preflight
from .sampler import MultiTaskBatchSampler
from .schema import DatasetError, DatasetSchema
from .validate import validate_records

__all__ = [
    "BrokenSampleError",
    "DatasetError",
    "DatasetSchema",
    "MultiTaskBatchSampler",
    "MultiTaskDatasetMapper",
    "build_multitask_test_loader",
    "build_multitask_train_loader",
    "get_records",
    "load_coco_multitask",
    "load_records",
    "preflight",
    "register_all",
    "register_coco_multitask",
    "register_dataset",
    "register_description",
    "register_multitask_dataset",
    "resolve_dataset",
    "resolve_datasets",
    "validate_records",
]
