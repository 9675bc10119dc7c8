"""Boundary AP and Boundary IoU: how well the outlines of objects and classes are met.

"Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" (Cheng et al. 2021). The overlap of large
regions says little about their outlines; of two regions the paper compares the inner bands (``structures.boundary``).
"""

from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

from mtl_d2.evaluation.rle import RLE, encode_box_mask
from mtl_d2.evaluation.sem_seg_figures import class_ious
from mtl_d2.structures.boundary import band_width, boundary_band, label_bands
from mtl_d2.structures.run_lengths import decode_rle


def checked_width(fraction: float) -> float:
    """The width itself.

    Raises:
        ValueError: it is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(
            f"TEST.MTL.BOUNDARY_WIDTH (boundary_width) is {fraction}, expected a fraction of the image's diagonal in "
            "[0, 1), such as 0.02; 0 leaves the boundary scores out."
        )
    return fraction


def boundary_rle(rle: RLE, fraction: float) -> RLE:
    """The inner band of a mask, from compressed RLE to compressed RLE.

    Args:
        fraction: width of the band as a fraction of the image's diagonal.
    """
    mask = decode_rle(rle)
    size = int(rle["size"][0]), int(rle["size"][1])
    if not mask.pixels.size:
        return encode_box_mask(mask, size)
    band = boundary_band(np.ascontiguousarray(mask.pixels), band_width(size, fraction))
    return encode_box_mask(mask._replace(pixels=band), size)


def with_boundaries(coco_eval_class: type, fraction: float) -> type:
    """A COCOeval (of pycocotools or of faster-coco-eval) that matches by min(mask IoU, Boundary IoU), section 5.

    With a crowd a detection overlaps as a mask: what a crowd's outline is, is not known. faster-coco-eval has a
    "boundary" of its own, which is not used: it rounds the width otherwise where it is a half (225 x 300 pixels),
    takes other pixels in images of few rows, and fifteen times as long.

    Args:
        fraction: width of the band as a fraction of the image's diagonal.
    """

    class BoundaryEval(coco_eval_class):
        def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802, N803  the name in both packages
            ious = super().computeIoU(imgId, catId)
            if len(ious) == 0:
                return ious
            truth, found = (
                coco.loadAnns(coco.getAnnIds(imgIds=[imgId], catIds=[catId])) for coco in (self.cocoGt, self.cocoDt)
            )
            order = np.argsort([-detection["score"] for detection in found], kind="mergesort")
            found = [found[i] for i in order[: self.params.maxDets[-1]]]
            # What overlaps too little as a mask is matched by no threshold, whatever its band is.
            near = (ious >= min(self.params.iouThrs)) & [not annotation["iscrowd"] for annotation in truth]
            rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
            if len(rows):
                bands = [boundary_rle(found[i]["segmentation"], fraction) for i in rows]
                true_bands = [boundary_rle(truth[i]["segmentation"], fraction) for i in columns]
                pairs = np.ix_(rows, columns)
                ious[pairs] = np.minimum(ious[pairs], mask_util.iou(bands, true_bands, [0] * len(columns)))
            return ious

    return BoundaryEval


def boundary_counts(predicted: np.ndarray, true: np.ndarray, num_classes: int, fraction: float) -> np.ndarray:
    """Pixels of the bands of each class in one image: in both, in the prediction's, in the truth's.

    Void pixels of the truth are void in the prediction too: they are in no band, and make none.

    Args:
        predicted, true: (H, W), integers; predicted in 0..K-1, true in 0..K, where K is void.
        fraction: width of the bands as a fraction of the image's diagonal.

    Returns:
        (3, K) int64.
    """
    void = true == num_classes
    width = band_width(true.shape, fraction)
    dtype = np.uint8 if num_classes < 255 else np.int32
    predicted, true = predicted.astype(dtype), true.astype(dtype)
    bands = [label_bands(ids, void, width) for ids in (predicted, true)]
    both = bands[0] & bands[1] & (predicted == true)
    regions = (true, both), (predicted, bands[0]), (true, bands[1])
    return np.stack([_count(ids, where, num_classes) for ids, where in regions])


def _count(ids: np.ndarray, where: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,) int64, pixels of each class among those of a mask."""
    # cv2 counts in float32: exact below 2 ** 24 pixels.
    if ids.dtype == np.uint8 and ids.size < 2**24:
        counts = cv2.calcHist([ids], [0], where.view(np.uint8), [num_classes], [0, num_classes])
        return counts.ravel().astype(np.int64)
    return np.bincount(ids[where], minlength=num_classes)


def boundary_iou_figures(counts: np.ndarray, class_names: list[str]) -> dict[str, float]:
    """boundary_IoU and boundary_IoU-<class> in 0..100 from the summed ``boundary_counts`` of a dataset.

    Bands are summed over the images, as pixels are for mIoU, with the same treatment of absent classes.
    """
    ious, mean = class_ious(*counts)
    per_class = {f"boundary_IoU-{name}": iou for name, iou in zip(class_names, ious, strict=True)}
    return {name: 100.0 * float(value) for name, value in {"boundary_IoU": mean, **per_class}.items()}
