"""Dataset schema, registration, checks and synthetic scenes."""

from mtl_d2.data.datasets import load_coco_multitask, register_all, register_coco_multitask, register_dataset
from mtl_d2.data.preflight import load_records, preflight
from mtl_d2.data.schema import DatasetError, DatasetSchema
from mtl_d2.data.validate import validate_records

__all__ = [
    "DatasetError",
    "DatasetSchema",
    "load_coco_multitask",
    "load_records",
    "preflight",
    "register_all",
    "register_coco_multitask",
    "register_dataset",
    "validate_records",
]
