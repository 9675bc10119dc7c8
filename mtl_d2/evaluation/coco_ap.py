"""COCO's average precision from annotations and detections in memory, at any number of detections per image.

``COCOeval.summarize`` of pycocotools reads AP at maxDets 100 whatever was asked for; here the figures are
read from the precision and recall tables, so that AP at 400 detections is computed at 400. faster-coco-eval
does the counting where it is installed, else pycocotools: the tables are the same.
"""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .boundary import with_boundaries

Backend = Literal["faster-coco-eval", "pycocotools"]
IoUType = Literal["bbox", "segm", "keypoints"]
Figures = dict[str, float]
RECALLS = tuple(i / 100 for i in range(101))  # at which COCO reads the precision


@dataclass(frozen=True)
class PrecisionRecall:
    """COCO's tables; -1 where a class has no ground truth of that size.

    precision: (T thresholds of IoU .50:.05:.95, R recalls 0:.01:1, K classes, A areas all/small/medium/large)
    recall: (T, K, A), the largest recall that was reached
    """

    precision: np.ndarray
    recall: np.ndarray


def default_backend() -> Backend:
    """faster-coco-eval where it is installed."""
    return "faster-coco-eval" if importlib.util.find_spec("faster_coco_eval") else "pycocotools"


def build_coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]], num_classes: int) -> COCO:
    """A pycocotools index over COCO dicts; annotation ids start at 1, since 0 means "not matched" in
    COCOeval."""
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": [{**annotation, "id": i} for i, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": i, "name": str(i)} for i in range(num_classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def precision_recall(
    ground_truth: COCO,
    detections: COCO,
    iou_type: IoUType,
    max_dets: int,
    backend: Backend | None = None,
    *,
    boundary_width: float = 0.0,
    sigmas: Sequence[float] = (),
) -> PrecisionRecall:
    """COCO's precision and recall at ``max_dets`` detections per image and class.

    Args:
        boundary_width: with "segm", a detection matches by the smaller of mask IoU and Boundary IoU, whose bands have
            this width, a fraction of the image's diagonal; 0 for mask IoU alone.
        sigmas: of "keypoints", one each; COCO's own where there are none. Areas are all/medium/large there.
    """
    if iou_type == "keypoints":  # faster-coco-eval asks its own kind of COCO for the classes
        ground_truth.cat_img_map = dict.fromkeys(ground_truth.getCatIds())
    coco_eval_class = _coco_eval_class(backend or default_backend())
    if boundary_width:
        coco_eval_class = with_boundaries(coco_eval_class, boundary_width)
    coco_eval = coco_eval_class(ground_truth, detections, iou_type)
    coco_eval.params.maxDets = [max_dets]
    if sigmas:
        coco_eval.params.kpt_oks_sigmas = np.array(sigmas)
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval.evaluate()
        coco_eval.accumulate()
    return PrecisionRecall(
        np.asarray(coco_eval.eval["precision"])[..., 0], np.asarray(coco_eval.eval["recall"])[..., 0]
    )


def _coco_eval_class(backend: Backend) -> type:
    if backend == "pycocotools":
        return COCOeval
    from faster_coco_eval import COCOeval_faster

    return COCOeval_faster


def average_precision(tables: PrecisionRecall, class_names: list[str]) -> Figures:
    """AP, AP50, AP75, APs, APm, APl, AR and AP-<class>, in 0..100; NaN where there is no ground truth."""
    precision, recall = tables.precision, tables.recall
    figures = {
        "AP": _mean(precision[..., 0]),
        "AP50": _mean(precision[0, ..., 0]),
        "AP75": _mean(precision[5, ..., 0]),
        "APs": _mean(precision[..., 1]),
        "APm": _mean(precision[..., 2]),
        "APl": _mean(precision[..., 3]),
        "AR": _mean(recall[..., 0]),
    }
    per_class = {f"AP-{name}": _mean(precision[:, :, k, 0]) for k, name in enumerate(class_names)}
    return {**figures, **per_class}


def precision_curves(tables: PrecisionRecall, class_names: list[str]) -> dict[str, Any]:
    """What the figures AP50 and AP75 are means of: precision, in 0..1, at each of COCO's 101 recalls.

    Returns:
        ``{"IoU=0.50": {"mean": over the classes with ground truth, "classes": {name: its own}}, "IoU=0.75":
        likewise}``; lists of 101 numbers, None where there is no ground truth.
    """
    return {f"IoU={iou}": _curves_at(tables.precision[t, ..., 0], class_names) for iou, t in (("0.50", 0), ("0.75", 5))}


def _curves_at(precision: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    """Curves from (101, K) precisions; a class is defined at every recall or at none."""
    defined = precision.min(axis=0) > -1
    mean = precision[:, defined].mean(axis=1).tolist() if defined.any() else None
    classes = {name: precision[:, k].tolist() if defined[k] else None for k, name in enumerate(class_names)}
    return {"mean": mean, "classes": classes}


def _mean(values: np.ndarray) -> float:
    """Mean of the entries that are defined, as a percentage."""
    defined = values[values > -1]
    return 100.0 * float(defined.mean()) if defined.size else float("nan")
