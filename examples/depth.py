#!/usr/bin/env python
"""A task of your own, from outside the package: monocular depth, trained beside instances, semantics and edges.

    python tools/make_shapes.py
    python examples/depth.py --config-file examples/depth.yaml
    python tools/draw_panels.py --import examples/depth.py --config-file examples/depth.yaml \\
        --weights output/depth/model_final.pth --output output/depth/panels

All that a task consists of stands below, in the order in which data passes through it: label, head, loss, metric,
evaluator, picture, and the branch that ties them together under the name that MODEL.MTL.TASKS gives.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.evaluation import DatasetEvaluator
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.utils import comm
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_d2 import TaskBranch, register_task
from mtl_d2.engine import main
from mtl_d2.tasks import TaskBatch
from mtl_d2.visualization import register_cell

NEAR, FAR = 2.0, 10.0  # metres to the ground at the lower and at the upper border of the image
IN_FRONT = 0.9  # depth of a shape by that of the nearest shape that it covers or touches
INVALID = 0
VOID = 255


def shapes_depth(record: dict[str, Any]) -> np.ndarray | None:
    """The depth of a scene of ``shapes``, (H, W) float32 in metres, 0 where unknown; None without its labels.

    The ground is a plane, whose inverse depth is linear in the image's rows. Each shape is a card that stands
    upright where its lowest pixel touches the ground, nearer if it covers another one: shapes are listed in the
    order in which they were painted. Void is unknown.
    """
    if not {"annotations", "sem_seg_file_name"} <= set(record):
        return None
    semantic = np.asarray(Image.open(record["sem_seg_file_name"]))
    ground = 1 / np.linspace(1 / FAR, 1 / NEAR, len(semantic), dtype=np.float32)
    depth = np.where(semantic == VOID, np.float32(INVALID), ground[:, None])
    cards = np.full(semantic.shape, np.inf, np.float32)
    for annotation in record["annotations"]:
        mask = mask_util.decode(annotation["segmentation"])
        around = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0
        lowest = np.flatnonzero(mask.any(axis=1))[-1]
        cards[mask > 0] = min(ground[lowest], IN_FRONT * cards[around].min())
    return np.where(np.isfinite(cards), cards, depth)


def depth_target(record: dict[str, Any], transforms: T.TransformList) -> dict[str, Tensor]:
    """The label as it lies in the augmented image."""
    depth = shapes_depth(record)
    if depth is None:
        return {}
    inside = transforms.apply_segmentation(np.ones(depth.shape, np.uint8)) == 1  # what pads an image has no depth
    return {"depth": torch.from_numpy(np.where(inside, transforms.apply_segmentation(depth), np.float32(INVALID)))}


class DepthHead(nn.Module):
    """The logarithm of the depth in metres, by the decoder of semantic FPN (Kirillov et al. 2019)."""

    def __init__(self, input_shape: Mapping[str, ShapeSpec], conv_dims: int, norm: str) -> None:
        super().__init__()
        stride = min(shape.stride for shape in input_shape.values())
        self.decoder = SemSegFPNHead(
            input_shape, num_classes=1, conv_dims=conv_dims, common_stride=stride, norm=norm, ignore_value=0
        )
        nn.init.normal_(self.decoder.predictor.weight, std=0.01)
        nn.init.constant_(self.decoder.predictor.bias, math.log(math.sqrt(NEAR * FAR)))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """(N, 1, H, W) float32, at the padded input's resolution."""
        coarse = self.decoder.layers(features).float()
        return F.interpolate(coarse, scale_factor=self.decoder.common_stride, mode="bilinear", align_corners=False)


def silog_loss(log_depth: Tensor, depth: Tensor, scale_share: float = 0.5) -> Tensor:
    """Scale-invariant logarithmic error, the mean over the images.

    Eigen et al. 2014, Depth Map Prediction from a Single Image using a Multi-Scale Deep Network, equation 4:
    mean(d^2) - lambda * mean(d)^2 over the valid pixels, with d the difference of the logarithms.

    Args:
        log_depth: (N, H, W).
        depth: (N, H, W) in metres, 0 where unknown; an image without a known pixel has the loss 0.
        scale_share: lambda; 0 counts a wrong scale in full, 1 not at all.
    """
    valid = depth > INVALID
    difference = torch.where(valid, log_depth - depth.clamp(min=1e-6).log(), 0.0)
    pixels = valid.sum(dim=(1, 2)).clamp(min=1)
    mean_square = difference.square().sum(dim=(1, 2)) / pixels
    return (mean_square - scale_share * (difference.sum(dim=(1, 2)) / pixels).square()).mean()


def depth_sums(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Over the known pixels: their number, and the sums that :func:`depth_figures` needs; maps in metres."""
    known = true > INVALID
    p, t = predicted[known].astype(np.float64), true[known].astype(np.float64)
    within = np.maximum(p / t, t / p) < 1.25
    return np.array([len(t), (np.abs(p - t) / t).sum(), np.square(p - t).sum(), within.sum()])


def depth_figures(sums: np.ndarray) -> dict[str, float]:
    """abs_rel; rmse in metres; delta1, the share within a factor of 1.25, in 0..1: Eigen et al. 2014, section 4.1."""
    pixels, abs_rel, square, within = sums
    if pixels == 0:
        return dict.fromkeys(("abs_rel", "rmse", "delta1"), math.nan)
    return {"abs_rel": abs_rel / pixels, "rmse": math.sqrt(square / pixels), "delta1": within / pixels}


class DepthEvaluator(DatasetEvaluator):
    """Depth figures over all known pixels of a dataset; ``num_images`` is the number of images scored."""

    def __init__(self, dataset_name: str) -> None:
        self.records = {record["file_name"]: record for record in DatasetCatalog.get(dataset_name)}
        self.num_images = 0
        self.reset()

    def reset(self) -> None:
        self.sums, self.count = np.zeros(4), 0

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        for image_input, output in zip(inputs, outputs, strict=True):
            true = shapes_depth(self.records[image_input["file_name"]])
            if true is not None:
                self.sums = self.sums + depth_sums(output["depth"].cpu().numpy(), true)
                self.count += 1

    def evaluate(self) -> dict[str, dict[str, float]]:
        comm.synchronize()
        parts = comm.gather((self.sums, self.count))
        if not comm.is_main_process():
            return {}
        self.num_images = sum(count for _, count in parts)
        return OrderedDict(depth=depth_figures(np.sum([sums for sums, _ in parts], axis=0)))


def draw_depth(depth: Tensor | np.ndarray) -> np.ndarray:
    """Near bright, far dark, unknown grey; on a logarithmic scale."""
    metres = np.asarray(depth)
    far = np.log(np.clip(metres, NEAR / 2, FAR) / (NEAR / 2)) / math.log(FAR / (NEAR / 2))
    picture = (matplotlib.colormaps["magma_r"](far)[..., :3] * 255).astype(np.uint8)
    picture[metres <= INVALID] = 150
    return picture


register_cell("depth", "depth", draw_depth, read_label=shapes_depth)


@register_task
class DepthBranch(TaskBranch):
    """Monocular depth."""

    name = "depth"
    label_keys = ("depth",)
    output_key = "depth"
    metric = "depth/delta1"

    def __init__(self, depth_head: DepthHead) -> None:
        self.depth_head = depth_head

    @classmethod
    def add_config(cls, cfg: CfgNode) -> None:
        cfg.MODEL.MTL.DEPTH_HEAD = CfgNode({"CONVS_DIM": 128, "NORM": "GN"})

    @classmethod
    def build_target(cls, cfg: CfgNode) -> Any:
        return depth_target

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> "DepthBranch":
        levels = {name: input_shape[name] for name in cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES}
        head = cfg.MODEL.MTL.DEPTH_HEAD
        return cls(DepthHead(levels, head.CONVS_DIM, head.NORM))

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"depth_head": self.depth_head}

    @property
    def loss_names(self) -> tuple[str, ...]:
        return ("loss_depth",)

    def losses(self, features: Mapping[str, Tensor], batch: TaskBatch) -> dict[str, Tensor]:
        depth = batch.dense_labels("depth", INVALID)
        return {"loss_depth": silog_loss(self.depth_head(features)[:, 0], depth)}

    def inference(self, features: Mapping[str, Tensor], batch: TaskBatch, outputs: Mapping[str, list]) -> list[Tensor]:
        return list(self.depth_head(features))

    def postprocess(self, output: Tensor, image_size: tuple[int, int], height: int, width: int) -> Tensor:
        """(height, width) in metres."""
        return sem_seg_postprocess(output, image_size, height, width)[0].exp()

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None) -> DepthEvaluator:
        return DepthEvaluator(dataset_name)


if __name__ == "__main__":
    main()
