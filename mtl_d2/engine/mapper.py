"""The training mapper, with the labels of tasks from outside the package."""

from typing import Any

from detectron2.config import CfgNode

from ..data import MultiTaskDatasetMapper
from ..tasks import get_task


def build_train_mapper(cfg: CfgNode, **kwargs: Any) -> MultiTaskDatasetMapper:
    """Return the mapper of a training, with the target of each of MODEL.MTL.TASKS that makes its own labels.

    Args:
        cfg: reads MODEL.MTL.TASKS and what the mapper reads.
        kwargs: of :class:`mtl_d2.data.MultiTaskDatasetMapper`, in the place of what the config says.
    """
    targets = [get_task(name).build_target(cfg) for name in cfg.MODEL.MTL.TASKS]
    extra_targets = [target for target in targets if target is not None]
    return MultiTaskDatasetMapper(cfg, **{"is_train": True, "extra_targets": extra_targets, **kwargs})
