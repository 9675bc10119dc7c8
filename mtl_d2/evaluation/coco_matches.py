"""Which detections of which image are right, and COCO's average precision of any draw of the images."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .coco_ap import IoUType

RECALLS = np.linspace(0, 1, 101)  # COCO's, to the last bit
_CELLS = 2**22  # of a table of draws by detections that is in memory at a time


@dataclass(frozen=True)
class ImageMatches:
    """The D detections of N images, held against the ground truth at T thresholds of IoU; objects of all sizes.

    scores: (D,)
    classes: (D,), 0..K-1
    images: (D,), 0..N-1
    right: (T, D) bool, matched with an object
    wrong: (T, D) bool, matched with none; matched with a crowd, a detection is neither
    objects: (K, N), number of objects of each class in each image, crowds not counted
    """

    scores: np.ndarray
    classes: np.ndarray
    images: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    objects: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def image_matches(
    ground_truth: COCO, detections: COCO, iou_type: IoUType, max_dets: int, sigmas: Sequence[float] = ()
) -> ImageMatches:
    """Match with pycocotools, whose matches can be read; images have the ids 0..N-1, classes 0..K-1.

    Args:
        max_dets: detections per image and class that count, the best first.
        sigmas: of "keypoints", see ``precision_recall``.
    """
    coco_eval = COCOeval(ground_truth, detections, iou_type)
    if sigmas:
        coco_eval.params.kpt_oks_sigmas = np.array(sigmas)
    coco_eval.params.maxDets = [max_dets]
    coco_eval.params.areaRng, coco_eval.params.areaRngLbl = coco_eval.params.areaRng[:1], ["all"]
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval.evaluate()
    thresholds = len(coco_eval.params.iouThrs)
    objects = np.zeros((len(coco_eval.params.catIds), len(coco_eval.params.imgIds)), np.int64)
    scores, classes, images = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    matched, ignored = [np.zeros((thresholds, 0), bool)], [np.zeros((thresholds, 0), bool)]
    for found in coco_eval.evalImgs:
        if found is None:  # neither objects nor detections
            continue
        objects[found["category_id"], found["image_id"]] = np.count_nonzero(np.asarray(found["gtIgnore"]) == 0)
        count = len(found["dtScores"])
        scores.append(np.asarray(found["dtScores"], float))
        classes.append(np.full(count, found["category_id"], np.int64))
        images.append(np.full(count, found["image_id"], np.int64))
        matched.append(np.asarray(found["dtMatches"]).reshape(thresholds, count) > 0)
        ignored.append(np.asarray(found["dtIgnore"], bool).reshape(thresholds, count))
    is_matched, is_ignored = np.concatenate(matched, axis=1), np.concatenate(ignored, axis=1)
    return ImageMatches(
        scores=np.concatenate(scores),
        classes=np.concatenate(classes),
        images=np.concatenate(images),
        right=is_matched & ~is_ignored,
        wrong=~is_matched & ~is_ignored,
        objects=objects,
    )


def resampled_ap(matches: ImageMatches, repeats: np.ndarray) -> np.ndarray:
    """AP in 0..100 of a dataset in which image i stands ``repeats[b, i]`` times; (B,), NaN without any object.

    Equal to COCO's own accumulation over that dataset where no two detections of a class have the same score: copies
    of a detection follow each other in the ranking, so that they may be counted at once. Between them recall and
    precision move one way, and the envelope of the precision over the recalls is that of their ends.

    Args:
        repeats: (B, N) integers.
    """
    precision = np.full((len(repeats), len(matches.objects), len(matches.right)), np.nan)
    objects = repeats @ matches.objects.T
    for k in range(len(matches.objects)):
        order = np.flatnonzero(matches.classes == k)
        order = order[np.argsort(-matches.scores[order], kind="stable")]
        right, wrong = matches.right[:, order], matches.wrong[:, order]
        chunk = max(1, _CELLS // max(1, len(order)))
        for start in range(0, len(repeats), chunk):
            draws = slice(start, start + chunk)
            weights = repeats[draws].astype(np.int32)[:, matches.images[order]]
            precision[draws, k] = _precision_means(weights, right, wrong, objects[draws, k])
    defined = ~np.isnan(precision)
    total, count = np.where(defined, precision, 0).sum(axis=(1, 2)), defined.sum(axis=(1, 2))
    return np.where(count > 0, 100 * total / np.maximum(count, 1), np.nan)


def _precision_means(weights: np.ndarray, right: np.ndarray, wrong: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Mean precision at COCO's 101 recalls of each draw and threshold, (B, T); NaN without objects.

    Only right detections are looked at: a wrong one neither raises the recall, nor has it the highest precision.

    Args:
        weights: (B, D), how often each detection counts, best score first.
        right, wrong: (T, D) bool.
        objects: (B,)
    """
    means = np.full((len(objects), len(right)), np.nan)
    ignored = ~(right | wrong)
    ranks = None if ignored.any() else weights.cumsum(axis=1)
    for t in range(len(right)):
        of_threshold = (weights * ~ignored[t]).cumsum(axis=1) if ranks is None else ranks
        hits = weights[:, right[t]].cumsum(axis=1, dtype=float)
        precision = hits / (of_threshold[:, right[t]] + np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for b in np.flatnonzero(objects):
            reached = np.searchsorted(hits[b] / objects[b], RECALLS, side="left")
            means[b, t] = envelope[b, reached[reached < hits.shape[1]]].sum() / len(RECALLS)
    return means
