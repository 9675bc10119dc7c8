"""The figures of semantic segmentation, from counted pixels."""

import numpy as np


def sem_seg_figures(confusion: np.ndarray, class_names: list[str]) -> dict[str, float]:
    """Figures in 0..100 from a confusion matrix [predicted, true].

    A class without true pixels has no IoU of its own (NaN), but where it is predicted it lowers mIoU, as in
    Detectron2. The means are NaN where no pixel was labelled.
    """
    true_positives = confusion.diagonal().astype(float)
    true_pixels = confusion.sum(axis=0).astype(float)
    predicted_pixels = confusion.sum(axis=1).astype(float)
    present = true_pixels > 0
    iou, mean_iou = class_ious(true_positives, predicted_pixels, true_pixels)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.where(present, true_positives / true_pixels, np.nan)
        frequency = true_pixels / true_pixels.sum()
        figures = {
            "mIoU": mean_iou,
            "fwIoU": (iou[present] * frequency[present]).sum() if present.any() else np.nan,
            **{f"IoU-{name}": value for name, value in zip(class_names, iou, strict=True)},
            "mACC": accuracy[present].sum() / present.sum(),
            "pACC": true_positives.sum() / true_pixels.sum(),
            **{f"ACC-{name}": value for name, value in zip(class_names, accuracy, strict=True)},
        }
    return {name: 100.0 * float(value) for name, value in figures.items()}


def class_ious(both: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, float]:
    """IoU of each class, NaN where it has no true pixels, and their mean over the classes that are true or predicted.

    Args:
        both, predicted, true: (K,), pixels of each class in the intersection and in each of the two.
    """
    union = predicted + true - both
    with np.errstate(invalid="ignore", divide="ignore"):
        ious = np.where(true > 0, both / union, np.nan)
        return ious, ious[true > 0].sum() / np.float64((union > 0).sum())
