"""mtl_d2: several answers about an image from one network, as a Detectron2 extension.

After ``import mtl_d2`` every config of the project is buildable: its meta-architecture, heads, tasks and datasets are
registered with Detectron2.
"""

import warnings

from ._require import env_report_requested, require_detectron2

__version__ = "0.1.0"
__all__ = [
    "TASK_REGISTRY",
    "MultiTaskFPN",
    "PanopticMerge",
    "Predictor",
    "SeparateTaskNetworks",
    "TaskBranch",
    "add_mtl_config",
    "register_task",
]

# `python -m mtl_d2.collect_env` tells what is missing, so it must get by without any of this.
if not env_report_requested():
    require_detectron2()

    with warnings.catch_warnings():
        # What fvcore does when it is imported, newer torch calls deprecated: nothing that a user could change.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        import fvcore.nn  # noqa: F401

    from .config import add_mtl_config
    from .data.datasets import register_all
    from .meta_arch import MultiTaskFPN
    from .modeling.panoptic_merge import PanopticMerge
    from .predictor import Predictor
    from .separate_networks import SeparateTaskNetworks
    from .tasks import TASK_REGISTRY, TaskBranch, register_task

    register_all()
