"""Answers as files that other programs read: COCO's results, label and edge maps, COCO's panoptic format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from PIL import Image
from torch import Tensor

from ..evaluation.coco_dicts import instances_to_coco
from ..visualization.cells import class_map
from ..visualization.image_labels import image_class_names

_ROWS = 256  # of a map that is converted at a time: on the way, values are wider than in the file


class RawResults:
    """Writes the answers about images into a folder, each where it is there:

    * ``instances.json``: COCO's results, all scores: ``image_id``, ``category_id`` (the dataset's where it has ids of
      its own, else contiguous), ``bbox`` (x, y, w, h), ``score``, ``segmentation`` (compressed RLE), ``keypoints``
    * ``semantic/<name>.png``: class ids, 8 bits, 16 where an id is above 255
    * ``edge/<name>.png``: 255 * probability, 8 bits
    * ``panoptic/<name>.png`` and ``panoptic.json``: COCO's panoptic format: a segment's id is R + 256 G + 256^2 B, 0
      for void; ``categories`` are the things and then the stuff of the dataset, from 1
    * ``image_labels.json``: ``image_id`` and ``scores``, {class name: probability}
    * ``images.json``: ``id`` (from 1), ``file_name``, ``height`` and ``width`` of all

    The json files are complete when :meth:`close` was called. A map needs at most 7 bytes a pixel of memory on its way
    into the file, beside the answer.
    """

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        self.folder = folder
        ids = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
        self._dataset_ids = {contiguous: dataset_id for dataset_id, contiguous in ids.items()}
        self._metadata = metadata
        self._things = list(metadata.get("thing_classes", ()))
        self._stuff = list(metadata.get("stuff_classes", ()))
        self._images: list[dict[str, Any]] = []
        self._answers: dict[str, list[dict[str, Any]]] = {}  # by file, of those that are answered

    def write(self, name: str, file_name: str, size: tuple[int, int], answer: dict[str, Any]) -> None:
        """
        Args:
            name: of the maps' files.
            file_name: of the image, as the json files name it.
            size: its height and width.
            answer: of :class:`mtl_d2.Predictor`.
        """
        image_id = len(self._images) + 1
        if "instances" in answer:
            found = self._to_detections(answer["instances"], image_id)
            self._answers.setdefault("instances.json", []).extend(found)
        if "sem_seg" in answer:
            self._save("semantic", name, label_map(answer["sem_seg"]))
        if "edge" in answer:
            self._save("edge", name, edge_map(answer["edge"]))
        if "panoptic_seg" in answer:
            ids, segments = answer["panoptic_seg"]
            self._save("panoptic", name, encode_ids(ids.numpy()))
            annotation = {"image_id": image_id, "file_name": f"{name}.png"}
            annotation["segments_info"] = [self._to_coco_segment(segment) for segment in segments]
            self._answers.setdefault("panoptic.json", []).append(annotation)
        if "image_labels" in answer:
            scores = answer["image_labels"].tolist()
            named = dict(zip(image_class_names(self._metadata, len(scores)), scores, strict=True))
            self._answers.setdefault("image_labels.json", []).append({"image_id": image_id, "scores": named})
        self._images.append({"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]})

    def close(self) -> None:
        """Write the json files of what was written so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files: dict[str, Any] = {"images.json": self._images, **self._answers}
        if "panoptic.json" in files:
            names = [(name, 1) for name in self._things] + [(name, 0) for name in self._stuff]
            categories = [{"id": i, "name": name, "isthing": isthing} for i, (name, isthing) in enumerate(names, 1)]
            files["panoptic.json"] = {
                "images": self._images,
                "annotations": files["panoptic.json"],
                "categories": categories,
            }
        for file, content in files.items():
            (self.folder / file).write_text(json.dumps(content))

    def _save(self, kind: str, name: str, values: np.ndarray) -> None:
        path = self.folder / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)

    def _to_detections(self, instances: Instances, image_id: int) -> list[dict[str, Any]]:
        detections = []
        for found in instances_to_coco(instances):
            category = found["category_id"]
            detection = {**found, "image_id": image_id, "category_id": self._dataset_ids.get(category, category)}
            if "segmentation" in found:
                rle = found["segmentation"]
                detection["segmentation"] = {**rle, "counts": rle["counts"].decode("ascii")}
            detections.append(detection)
        return detections

    def _to_coco_segment(self, segment: dict[str, Any]) -> dict[str, Any]:
        offset = 1 if segment["isthing"] else 1 + len(self._things)
        return {**segment, "isthing": int(segment["isthing"]), "category_id": segment["category_id"] + offset}


def label_map(sem_seg: Tensor) -> np.ndarray:
    """Class ids (H, W), uint8 or, with an id above 255, uint16, of logits (K, H, W) or labels (H, W)."""
    labels = class_map(sem_seg).numpy()
    return labels.astype(np.uint8 if labels.max() <= 255 else np.uint16, copy=False)


def edge_map(edge: Tensor) -> np.ndarray:
    """Probabilities (H, W) as uint8, 255 for 1."""
    gray = np.empty(tuple(edge.shape), np.uint8)
    for top in range(0, len(gray), _ROWS):
        gray[top : top + _ROWS] = (edge[top : top + _ROWS] * 255).round().clamp(0, 255).byte().numpy()
    return gray


def encode_ids(ids: np.ndarray) -> np.ndarray:
    """(H, W) segment ids below 256^3 as colours (H, W, 3), uint8, of COCO's panoptic format."""
    colours = np.empty((*ids.shape, 3), np.uint8)
    for top in range(0, len(ids), _ROWS):
        for channel, shift in enumerate((0, 8, 16)):
            colours[top : top + _ROWS, :, channel] = ids[top : top + _ROWS] >> shift & 255
    return colours
