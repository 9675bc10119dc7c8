"""A config of a network that is small enough for tests."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..config import add_mtl_config
from .toy_labels import ALL_TASKS, TOY_KEYPOINTS, TOY_SIGMAS, TOY_STUFF_CLASSES, TOY_THING_CLASSES


def tiny_cfg(tasks: Sequence[str] = ALL_TASKS, dataset: str | None = None, **overrides: Any) -> CfgNode:
    """Return a config of a network that trains on a CPU in a fraction of a second per step, seed fixed.

    Args:
        tasks: MODEL.MTL.TASKS.
        dataset: the name for DATASETS.TRAIN and DATASETS.TEST.
        overrides: dotted keys, as in ``tiny_cfg(**{"SOLVER.MAX_ITER": 3})``.
    """
    cfg = get_cfg()
    add_mtl_config(cfg)
    cfg.merge_from_list(_TINY)
    cfg.MODEL.MTL.TASKS = list(tasks)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(TOY_THING_CLASSES)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(TOY_STUFF_CLASSES)
    cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES = len(TOY_THING_CLASSES)
    if dataset is not None:
        cfg.DATASETS.TRAIN = (dataset,)
        cfg.DATASETS.TEST = (dataset,)
    cfg.merge_from_list([part for pair in overrides.items() for part in pair])
    return cfg


# Group norm has 32 groups in Detectron2, and keeps the images of a batch independent of each other.
_TINY = [
    *("MODEL.META_ARCHITECTURE", "MultiTaskFPN", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.BACKBONE.FREEZE_AT", 0),
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "GN"),
    *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
    *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [128]]),
    *("MODEL.PROPOSAL_GENERATOR.NAME", "MultiTaskRPN"),
    *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"], "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 32),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100, "MODEL.RPN.PRE_NMS_TOPK_TEST", 100),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 50, "MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    *("MODEL.ROI_HEADS.NAME", "MultiTaskROIHeads", "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 4),
    *("MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", 1, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 7),
    *("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", len(TOY_KEYPOINTS), "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [16]),
    *("MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION", 7, "TEST.KEYPOINT_OKS_SIGMAS", list(TOY_SIGMAS)),
    *("MODEL.SEM_SEG_HEAD.NAME", "MultiTaskSemSegFPNHead", "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
    *("MODEL.MTL.EDGE_HEAD.CONVS_DIM", 32, "MODEL.MTL.EDGE_HEAD.STEM_DIM", 8),
    *("INPUT.MASK_FORMAT", "bitmask", "INPUT.RANDOM_FLIP", "horizontal"),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MAX_SIZE_TRAIN", 96),
    *("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96),
    *("DATALOADER.NUM_WORKERS", 0, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, "SEED", 1),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", (), "SOLVER.BASE_LR", 0.01),
    *("SOLVER.WARMUP_ITERS", 0, "SOLVER.CHECKPOINT_PERIOD", 0, "TEST.DETECTIONS_PER_IMAGE", 10),
]
