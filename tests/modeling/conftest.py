"""A tiny two-level R-CNN: its config, features and ground truth."""

from collections.abc import Callable

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, ImageList, Instances

import mtl_d2.modeling  # noqa: F401, it registers the parts
from mtl_d2.config import add_mtl_config

SIZE = (64, 64)


@pytest.fixture
def rcnn_cfg() -> CfgNode:
    """Three classes, 8 channels, masks on, this project's RPN and ROI heads with Detectron2's losses."""
    cfg = get_cfg()
    add_mtl_config(cfg)
    model = cfg.MODEL
    model.PROPOSAL_GENERATOR.NAME = "MultiTaskRPN"
    model.ROI_HEADS.NAME = "MultiTaskROIHeads"
    model.RPN.IN_FEATURES = model.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    model.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    model.RPN.POST_NMS_TOPK_TRAIN = model.RPN.POST_NMS_TOPK_TEST = 50
    model.ROI_HEADS.NUM_CLASSES = 3
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 32
    model.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    model.ROI_BOX_HEAD.NUM_FC = 1
    model.ROI_BOX_HEAD.FC_DIM = 16
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    model.MASK_ON = True
    model.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    model.ROI_MASK_HEAD.NUM_CONV = 1
    model.ROI_MASK_HEAD.CONV_DIM = 8
    model.ROI_MASK_HEAD.POOLER_RESOLUTION = 7
    return cfg


@pytest.fixture
def input_shape() -> dict[str, ShapeSpec]:
    return {"p2": ShapeSpec(channels=8, stride=4), "p3": ShapeSpec(channels=8, stride=8)}


@pytest.fixture
def features() -> dict[str, torch.Tensor]:
    """Of two images."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(2, 8, side, side, generator=generator, requires_grad=True)
        for name, side in (("p2", 16), ("p3", 8))
    }


@pytest.fixture
def images() -> ImageList:
    return ImageList(torch.zeros(2, 3, *SIZE), [SIZE, SIZE])


@pytest.fixture
def make_targets() -> Callable[..., Instances]:
    """Ground truth of one image from its boxes, of the classes 0, 1, 2, 0, ...; each mask fills its box."""

    def make(*boxes: list[float], masks: bool = True) -> Instances:
        targets = Instances(SIZE)
        targets.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        targets.gt_classes = torch.arange(len(boxes)) % 3
        if masks:
            bitmasks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(bitmasks, boxes, strict=True):
                mask[int(y0) : int(y1), int(x0) : int(x1)] = True
            targets.gt_masks = BitMasks(bitmasks)
        return targets

    return make
