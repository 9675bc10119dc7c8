"""Plain IoU loss of paired boxes, with the interface of fvcore's and torchvision's GIoU loss."""

import torch
from torch import Tensor

from ._reduce import at_least_float32


def iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - IoU of each pair.

    The linear form, from "Generalized Intersection over Union" (Rezatofighi et al. 2019), of the loss of
    "UnitBox" (Yu et al. 2016). Pairs that are disjoint or have no area cost 1, without a gradient: there GIoU
    is the remedy.

    Args:
        boxes1, boxes2: (R, 4) or (4,), x1 y1 x2 y2, paired by position; float32 is used inside.
        reduction: "none" | "mean" | "sum"; the mean of no boxes is zero.
        eps: added to the union, in square pixels.

    Raises:
        ValueError: unknown `reduction`.
    """
    boxes1, boxes2 = at_least_float32(boxes1), at_least_float32(boxes2)
    left_top = torch.max(boxes1[..., :2], boxes2[..., :2])
    right_bottom = torch.min(boxes1[..., 2:], boxes2[..., 2:])
    overlap = _area(right_bottom - left_top)
    union = _area(boxes1[..., 2:] - boxes1[..., :2]) + _area(boxes2[..., 2:] - boxes2[..., :2]) - overlap
    loss = 1 - overlap / (union + eps)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / max(loss.numel(), 1)
    raise ValueError(f"iou_loss: reduction is {reduction!r}, expected 'none', 'mean' or 'sum'")


def _area(size: Tensor) -> Tensor:
    """Area of (..., 2) widths and heights, zero where one is negative."""
    width, height = size.clamp(min=0).unbind(-1)
    return width * height
