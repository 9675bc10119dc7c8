"""What an evaluator keeps of each image, so that its figure can be computed again on any other draw of the images.

A draw says how often each image counts: ``repeats`` (B draws, N images), integers of 0 or more. The figure of a draw is
that of a dataset in which image i stands ``repeats[i]`` times, as a bootstrap needs it.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .average_precision import mean_average_precision
from .coco_ap import IoUType
from .coco_matches import ImageMatches, resampled_ap
from .edge_scores import edge_scores
from .sem_seg_figures import sem_seg_figures

FOLDER = "per_image"  # in the output folder of an evaluator


@dataclass(frozen=True)
class PerImage(ABC):
    """The statistics of N images, from which a figure can be computed.

    names: of the image files, in the order of the statistics.
    """

    names: tuple[str, ...]
    metric: ClassVar[str]

    @abstractmethod
    def figures(self, repeats: np.ndarray) -> np.ndarray:
        """The figure, (B,), of each of the draws (B, N); NaN where it is undefined."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What is written, without the names."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "names"}

    def write(self, folder: Path, group: str) -> Path:
        """Write ``folder/per_image/<group>.npz``; it is read without pickle."""
        path = folder / FOLDER / f"{group}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"names": np.array(self.names, dtype=str), **self.arrays()}
        np.savez_compressed(path, **arrays)
        return path

    def reordered(self, names: Sequence[str]) -> np.ndarray:
        """Columns of a draw over ``names`` that are this metric's images, in its order.

        Raises:
            ValueError: an image is not among the names.
        """
        column = {name: i for i, name in enumerate(names)}
        missing = [name for name in self.names if name not in column]
        if missing:
            raise ValueError(f"{missing[0]} is not among the {len(names)} images that are drawn from.")
        return np.array([column[name] for name in self.names], dtype=np.int64)


@dataclass(frozen=True)
class Confusions(PerImage):
    """mIoU, in 0..100, from ``confusions`` (N, K, K), [predicted, true] as in ``confusion_matrix``."""

    confusions: np.ndarray
    metric = "sem_seg/mIoU"

    def figures(self, repeats: np.ndarray) -> np.ndarray:
        num_classes = self.confusions.shape[1]
        summed = repeats @ self.confusions.reshape(len(self.names), -1)
        classes = [str(k) for k in range(num_classes)]
        tables = summed.reshape(-1, num_classes, num_classes)
        return np.array([sem_seg_figures(table, classes)["mIoU"] for table in tables])


@dataclass(frozen=True)
class EdgeCounts(PerImage):
    """ODS, in 0..1, from ``counts`` (N, T, 4), see ``edge_counts``."""

    counts: np.ndarray
    metric = "edge/ODS"

    def figures(self, repeats: np.ndarray) -> np.ndarray:
        thresholds = self.counts.shape[1]
        summed = (repeats @ self.counts.reshape(len(self.names), -1)).reshape(-1, 1, thresholds, 4)
        ods = np.array([edge_scores(table).ODS for table in summed])
        return np.where(repeats.sum(axis=1) > 0, ods, np.nan)


@dataclass(frozen=True)
class ImageScores(PerImage):
    """mAP of image labels, in 0..100, from ``scores`` and ``labels`` (N, K), see ``mean_average_precision``."""

    scores: np.ndarray
    labels: np.ndarray
    metric = "classification/mAP"

    def figures(self, repeats: np.ndarray) -> np.ndarray:
        return mean_average_precision(self.scores, self.labels, repeats)


@dataclass(frozen=True)
class Matches(PerImage):
    """COCO's AP, in 0..100, from the matches of the detections."""

    matches: ImageMatches

    def figures(self, repeats: np.ndarray) -> np.ndarray:
        return resampled_ap(self.matches, repeats)

    def arrays(self) -> dict[str, np.ndarray]:
        return self.matches.arrays()


class BoxMatches(Matches):
    """AP of boxes."""

    metric = "bbox/AP"


class MaskMatches(Matches):
    """AP of masks."""

    metric = "segm/AP"


class KeypointMatches(Matches):
    """AP of keypoints."""

    metric = "keypoints/AP"


_MATCHES: dict[str, type[Matches]] = {"bbox": BoxMatches, "segm": MaskMatches, "keypoints": KeypointMatches}
_KINDS: tuple[type[PerImage], ...] = (Confusions, EdgeCounts, ImageScores, *_MATCHES.values())


def write_matches(folder: str | os.PathLike, names: tuple[str, ...], matches: ImageMatches, iou_type: IoUType) -> None:
    """Write the statistics of boxes, masks or keypoints below ``folder``."""
    _MATCHES[iou_type](names, matches).write(Path(folder), iou_type)


def read_per_image(folder: Path, metric: str) -> PerImage | None:
    """The statistics behind ``metric`` (such as "edge/ODS") that an evaluator wrote below ``folder``.

    Returns:
        None where there is no such file, or where it is of a metric that this package does not know.
    """
    path = folder / FOLDER / f"{metric.partition('/')[0]}.npz"
    kinds: dict[str, Any] = {kind.metric: kind for kind in _KINDS}
    if metric not in kinds or not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    names = tuple(str(name) for name in arrays.pop("names"))
    kind = kinds[metric]
    if issubclass(kind, Matches):
        return kind(names, ImageMatches(**arrays))
    return kind(names, **arrays)
