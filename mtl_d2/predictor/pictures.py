"""Answers as pictures: a panel for an image, a video with overlays for a video."""

import logging
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from PIL import Image

from ..data import DatasetError, resolve_dataset
from ..visualization import draw_overlay, draw_panel, reduce_for_drawing
from ..visualization.image_labels import name_image_labels

logger = logging.getLogger(__name__)

_DRAWN_WHOLE = 2048  # pixels of the longer side: above, a reduced copy is drawn


def find_metadata(cfg: CfgNode, dataset: str | None = None) -> Metadata:
    """Class names, ids and colours of a dataset; numbered names where they do not fit the network.

    Args:
        cfg: of the network.
        dataset: a name, or the path of a description; the config's first by default.
    """
    names = [*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN] if dataset is None else [dataset]
    fields = _fields(cfg, names[0]) if names else {}
    counts = {"thing": cfg.MODEL.ROI_HEADS.NUM_CLASSES, "stuff": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}
    counts["image_label"] = cfg.MODEL.MTL.CLASSIFICATION_HEAD.NUM_CLASSES
    for kind, count in counts.items():
        for other in names[1:]:
            if not fields.get(f"{kind}_classes"):  # such as where it is labelled for training alone
                fields |= {key: value for key, value in _fields(cfg, other).items() if key.startswith(f"{kind}_")}
        if len(fields.get(f"{kind}_classes") or ()) != count:  # such as a network that was trained on another dataset
            fields[f"{kind}_classes"] = [f"class {i}" for i in range(count)]
            fields.pop(f"{kind}_colors", None)
            fields.pop(f"{kind}_dataset_id_to_contiguous_id", None)
    return Metadata().set(**fields)


def _fields(cfg: CfgNode, dataset: str) -> dict[str, Any]:
    known = name_image_labels(_known_metadata(dataset), cfg.INPUT.MTL.IMAGE_LABELS)
    return {key: value for key, value in known.as_dict().items() if key != "name"}


def _known_metadata(dataset: str) -> Metadata:
    with suppress(DatasetError):  # of a dataset that is not on this machine
        name = resolve_dataset(dataset)
        if name in MetadataCatalog.list():
            _load_categories(name)
            return MetadataCatalog.get(name)
    return Metadata()


def _load_categories(name: str) -> None:
    """Read the records of a described dataset: the ids of its categories, and maybe their names, come with them."""
    description = MetadataCatalog.get(name).get("description")
    known = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id")
    if description is None or not description.instances or known is not None:
        return
    try:
        DatasetCatalog.get(name)  # its loader completes the metadata
    except (DatasetError, OSError) as error:
        logger.warning("Categories have the network's numbers, as their json is not read: %s", error)


class PanelWriter:
    """Writes a panel of an image and its answers, ``<folder>/<name>.png``."""

    def __init__(self, folder: Path, metadata: Metadata, score_threshold: float) -> None:
        self.folder, self.metadata, self.score_threshold = folder, metadata, score_threshold

    def write(self, name: str, title: str, image: np.ndarray, answer: dict[str, Any]) -> None:
        """
        Args:
            name: of the file.
            title: what the panel is headed with.
            image: (H, W, 3) uint8, BGR.
            answer: of :class:`mtl_d2.Predictor`.
        """
        if max(image.shape[:2]) > _DRAWN_WHOLE:
            image, answer = reduce_for_drawing(image, answer)
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        panel = draw_panel(rgb, answer, self.metadata, score_threshold=self.score_threshold, name=title)
        self.folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(panel).save(self.folder / f"{name}.png")


class VideoWriter:
    """Writes an mp4 of frames with their answers drawn on them; the file is complete when it is closed.

    Args:
        path: of the mp4.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: float, metadata: Metadata, score_threshold: float) -> None:
        self.path, self.fps, self.metadata, self.score_threshold = path, fps, metadata, score_threshold
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray, answer: dict[str, Any]) -> None:
        """
        Args:
            frame: (H, W, 3) uint8, BGR, of one size for all.
            answer: of :class:`mtl_d2.Predictor`.

        Raises:
            OSError: the file cannot be written.
        """
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            height, width = frame.shape[:2]
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"{self.path}: OpenCV cannot write an mp4 here; see --save panels.")
        rgb = np.ascontiguousarray(frame[:, :, ::-1])
        overlay = draw_overlay(rgb, answer, self.metadata, score_threshold=self.score_threshold)
        self._writer.write(np.ascontiguousarray(overlay[:, :, ::-1]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


def frame_name(name: str, index: int, num_frames: int) -> str:
    """``name`` with the frame's number, padded so that names sort as frames do."""
    digits = max(6, math.ceil(math.log10(num_frames + 1)))
    return f"{name}_{index:0{digits}d}"
