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
    union = true_pixels + predicted_pixels - true_positives
    present = true_pixels > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.where(present, true_positives / true_pixels, np.nan)
        iou = np.where(present, true_positives / union, np.nan)
        frequency = true_pixels / true_pixels.sum()
        figures = {
            "mIoU": iou[present].sum() / (union > 0).sum(),
            "fwIoU": (iou[present] * frequency[present]).sum() if present.any() else np.nan,
            **{f"IoU-{name}": value for name, value in zip(class_names, iou, strict=True)},
            "mACC": accuracy[present].sum() / present.sum(),
            "pACC": true_positives.sum() / true_pixels.sum(),
            **{f"ACC-{name}": value for name, value in zip(class_names, accuracy, strict=True)},
        }
    return {name: 100.0 * float(value) for name, value in figures.items()}
