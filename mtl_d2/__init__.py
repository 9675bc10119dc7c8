"""mtl_d2: several answers about an image from one network, as a Detectron2 extension.

After ``import mtl_d2`` every config of the project is buildable: its meta-architecture, heads, tasks and datasets are
registered with Detectron2.
"""

from .config import add_mtl_config
from .data.datasets import register_all as _register_datasets
from .meta_arch import MultiTaskFPN, PanopticMerge
from .tasks import TASK_REGISTRY, TaskBranch, register_task

__version__ = "0.1.0"
__all__ = ["TASK_REGISTRY", "MultiTaskFPN", "PanopticMerge", "TaskBranch", "add_mtl_config", "register_task"]

_register_datasets()
