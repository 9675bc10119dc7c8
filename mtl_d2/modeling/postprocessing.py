"""From raw outputs to answers and the panoptic map: Detectron2's rules and results, at a fraction of the time."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
import torch
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F


def resize_dense(output: Tensor, image_size: tuple[int, int], height: int, width: int) -> Tensor:
    """Detectron2's `sem_seg_postprocess`, but nothing is computed where the size is right already.

    Args:
        output: (C, H, W) of the padded image.
        image_size: height and width of the image in it, from its upper left corner.

    Returns:
        (C, height, width), bilinear; a view of `output` where that is the image's size.
    """
    if image_size == (height, width):
        return output[:, :height, :width]
    return sem_seg_postprocess(output, image_size, height, width)


def resize_instances(instances: Instances, height: int, width: int) -> Instances:
    """Detectron2's `detector_postprocess`, with masks pasted by :func:`paste_masks` on a CPU.

    Args:
        instances: raw detections with `pred_boxes` and, where known, `pred_masks` (R, 1, M, M); their boxes are
            scaled in place, as by Detectron2.
    """
    if not instances.has("pred_masks") or instances.pred_masks.device.type != "cpu":
        return detector_postprocess(instances, height, width)
    fields = instances.get_fields()
    roi_masks = fields["pred_masks"][:, 0]
    others = {name: value for name, value in fields.items() if name != "pred_masks"}
    result = detector_postprocess(Instances(instances.image_size, **others, roi_masks=roi_masks), height, width)
    result.pred_masks = paste_masks(result.roi_masks, result.pred_boxes.tensor, height, width)
    result.remove("roi_masks")
    return result


def paste_masks(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5) -> Tensor:
    """Detectron2's `paste_masks_in_image` for a CPU, to the bit: each mask is resampled within its box alone.

    Args:
        masks: (R, M, M) probabilities.
        boxes: (R, 4) in pixels, none empty.

    Returns:
        (R, height, width) bool.
    """
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool)
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    # Pixel centres in the coordinates of each box, -1 to 1.
    x = (torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1
    y = (torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1
    for i, (rows, columns) in enumerate(_windows(boxes, len(masks), height, width)):
        window = pasted[i, rows, columns]
        grid = torch.stack([x[i, columns].expand_as(window), y[i, rows, None].expand_as(window)], dim=-1)
        resampled = F.grid_sample(masks[None, None, i], grid[None], align_corners=False)
        torch.ge(resampled[0, 0], threshold, out=window)
    return pasted


Window = tuple[slice, slice]  # rows and columns
Part = tuple[Window, np.ndarray, int]  # where a mask lies, its pixels there (bool), its area

_BLOCK_PIXELS = 2**20


def combine_panoptic(
    instances: Instances,
    sem_seg_labels: Tensor,
    *,
    stuff_ids: Sequence[int] | None = None,
    overlap_threshold: float = 0.5,
    stuff_area_threshold: int = 4096,
    score_threshold: float = 0.5,
) -> tuple[Tensor, list[dict]]:
    """Instances by falling score, each on the pixels that the earlier ones left; then stuff on what is left.

    The output is that of Detectron2's `combine_semantic_and_instance_outputs`, with the stuff ids given. The
    rule is that of "Panoptic Feature Pyramid Networks" (Kirillov et al. 2019), section 4.

    Args:
        instances: `pred_masks` (R, H, W) bool, `scores`, `pred_classes` and, where known, `pred_boxes` around
            the masks, in pixels: they save time and change nothing. On a CPU `pred_box_masks` (BoxMasks) may
            stand in for `pred_masks`.
        sem_seg_labels: (H, W), integers, semantic ids >= 0.
        stuff_ids: the semantic ids that are stuff; None for Detectron2's rule: all but 0.
        overlap_threshold: an instance of which more than this fraction is taken already is dropped.
        stuff_area_threshold: stuff of fewer free pixels is dropped.
        score_threshold: an instance of a lower score is dropped.

    Returns:
        A map (H, W) int32 of segment ids, 0 for none, and the segments: {"id", "isthing": True, "score",
        "category_id" (contiguous thing id), "instance_id" (position in `instances`)}, then {"id", "isthing":
        False, "category_id" (semantic id), "area" (pixels)}.
    """
    device = sem_seg_labels.device
    order = torch.argsort(-instances.scores)
    # One transfer for all three; float64 holds them exactly.
    columns = torch.stack([x.double()[order] for x in (instances.scores, instances.pred_classes)] + [order])
    scores, classes, positions = columns.tolist()
    num_above = next((i for i, score in enumerate(scores) if score < score_threshold), len(scores))
    order = order[:num_above].to(device)
    segment_ids, painted = _paint_instances(instances, order, overlap_threshold)
    kept, free_areas = _read_back(painted, _count_labels(sem_seg_labels, segment_ids))

    segments_info: list[dict] = []
    for rank in (rank for rank, is_kept in enumerate(kept) if is_kept):
        segments_info.append(
            {
                "id": len(segments_info) + 1,
                "isthing": True,
                "score": scores[rank],
                "category_id": int(classes[rank]),
                "instance_id": int(positions[rank]),
            }
        )
    stuff = set(free_areas) - {0} if stuff_ids is None else set(stuff_ids)
    label_to_id = torch.zeros(max(free_areas, default=0) + 1, dtype=torch.int32)
    for label, area in free_areas.items():
        if label in stuff and area >= stuff_area_threshold:
            label_to_id[label] = len(segments_info) + 1
            segments_info.append({"id": len(segments_info) + 1, "isthing": False, "category_id": label, "area": area})
    return _fill_free(segment_ids, label_to_id, sem_seg_labels), segments_info


def _paint_instances(instances: Instances, order: Tensor, overlap_threshold: float) -> tuple[Tensor, Tensor]:
    if instances.has("pred_box_masks"):
        masks = instances.pred_box_masks[order.cpu()].masks
        parts = ((mask.window, mask.pixels, mask.area) for mask in masks)
        return _paint_parts(parts, len(masks), instances.image_size, overlap_threshold)
    masks = instances.pred_masks.to(device=order.device, dtype=torch.bool)
    if order.device.type != "cpu":
        return _paint_without_sync(masks, order, overlap_threshold)
    boxes = instances.pred_boxes.tensor if instances.has("pred_boxes") else None
    return _paint_in_boxes(masks, order, overlap_threshold, boxes)


def _paint_in_boxes(
    masks: Tensor, order: Tensor, overlap_threshold: float, boxes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Paint the masks (R, H, W) in that order, on the CPU, each within its box (R, 4).

    Returns:
        (H, W) int32 map of 1, 2, ... in the order painted, 0 where free; and which of `order` are in it.
    """
    size = (masks.shape[1], masks.shape[2])
    parts = _cut_out(masks.numpy().view(np.uint8), order.tolist(), _windows(boxes, len(masks), *size))
    return _paint_parts(parts, len(order), size, overlap_threshold)


def _cut_out(masks: np.ndarray, order: list[int], windows: list[Window]) -> Iterator[Part]:
    for index in order:
        frame, window = masks[index], windows[index]
        area = cv2.countNonZero(frame) if frame.size else 0
        # Nothing says that a mask stays within its box.
        if np.count_nonzero(frame[window]) != area:
            window = (slice(None), slice(None))
        yield window, frame[window].view(bool), area


def _paint_parts(
    parts: Iterable[Part], count: int, size: tuple[int, int], overlap_threshold: float
) -> tuple[Tensor, Tensor]:
    segment_ids = np.zeros(size, np.int32)
    kept = np.zeros(count, bool)
    num_painted = 0
    for rank, (window, mask, area) in enumerate(parts):
        if area == 0:
            continue
        painted = segment_ids[window]
        visible = mask & (painted == 0)
        overlap = area - np.count_nonzero(visible)
        if overlap / area > overlap_threshold:
            continue
        num_painted += 1
        np.copyto(painted, num_painted, where=visible)
        kept[rank] = True
    return torch.from_numpy(segment_ids), torch.from_numpy(kept)


def _windows(boxes: Tensor | None, count: int, height: int, width: int) -> list[Window]:
    """Rows and columns of each box, with the pixel that a resampled mask may reach beyond it."""
    if boxes is None:
        return [(slice(None), slice(None))] * count
    limits = boxes.new_tensor([width, height, width, height])
    low, high = boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1
    corners = torch.cat([low, high], 1).clamp(min=0).minimum(limits).long().tolist()
    return [(slice(y0, y1), slice(x0, x1)) for x0, y0, x1, y1 in corners]


def _paint_without_sync(masks: Tensor, order: Tensor, overlap_threshold: float) -> tuple[Tensor, Tensor]:
    """`_paint_in_boxes` for a GPU: what is kept is known on the device alone until the end."""
    segment_ids = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    kept = torch.zeros(len(order), dtype=torch.bool, device=masks.device)
    num_painted = torch.zeros((), dtype=torch.int32, device=masks.device)
    areas = masks.flatten(1).sum(1).double()[order]
    for rank, mask in enumerate(masks[order]):
        visible = mask & (segment_ids == 0)
        overlap = areas[rank] - visible.sum()
        # In float64, as Python divides; an empty mask gives NaN, which the first condition covers.
        keep = (areas[rank] > 0) & ~(overlap / areas[rank] > overlap_threshold)
        num_painted = num_painted + keep
        segment_ids = torch.where(visible & keep, num_painted, segment_ids)
        kept[rank] = keep
    return segment_ids, kept


def _count_labels(labels: Tensor, segment_ids: Tensor) -> Tensor:
    """(L, 2) number of pixels of each label that are taken by a segment, and that are free."""
    if labels.device.type != "cpu":
        found = (labels * 2 + (segment_ids == 0)).flatten().bincount()
        return torch.nn.functional.pad(found, (0, len(found) % 2)).view(-1, 2)
    # numpy counts and gathers several times faster than torch does on a CPU.
    counts = np.zeros((int(labels.max()) + 1 if labels.numel() else 0, 2), np.int64)
    for some, ids in _row_blocks(labels, segment_ids):
        counts += np.bincount((some * np.int64(2) + (ids == 0)).ravel(), minlength=counts.size).reshape(-1, 2)
    return torch.from_numpy(counts)


def _fill_free(segment_ids: Tensor, table: Tensor, labels: Tensor) -> Tensor:
    """table[labels] where no segment is; on a CPU in place."""
    if labels.device.type != "cpu":
        return torch.where(segment_ids == 0, table.to(labels.device)[labels], segment_ids)
    for some, ids in _row_blocks(labels, segment_ids):
        np.copyto(ids, table.numpy()[some], where=ids == 0)
    return segment_ids


def _row_blocks(*maps: Tensor) -> Iterator[list[np.ndarray]]:
    """The same rows of maps (H, W), a million pixels at a time: their int64 copies stay small."""
    height, width = maps[0].shape
    step = max(1, _BLOCK_PIXELS // max(width, 1))
    for top in range(0, height, step):
        yield [values[top : top + step].numpy() for values in maps]


def _read_back(kept: Tensor, counts: Tensor) -> tuple[list[bool], dict[int, int]]:
    """Which instances are kept, and the free pixels of each label that occurs, by label; in one transfer."""
    values = torch.cat([kept.long(), counts.flatten()]).tolist()
    pairs = list(zip(values[len(kept) :: 2], values[len(kept) + 1 :: 2], strict=True))
    free_areas = {label: free for label, (taken, free) in enumerate(pairs) if taken + free > 0}
    return [value == 1 for value in values[: len(kept)]], free_areas
