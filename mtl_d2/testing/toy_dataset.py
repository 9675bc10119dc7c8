"""Rectangles on noise, on disk and registered."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from .toy_labels import ALL_TASKS, TOY_KEYPOINTS, TOY_STUFF_CLASSES, TOY_STUFF_IDS, TOY_THING_CLASSES, per_image


@contextmanager
def toy_dataset(
    num_images: int = 4,
    size: tuple[int, int] = (64, 64),
    *,
    labels: Sequence[str] | Sequence[Sequence[str]] = ALL_TASKS,
    edge_source: str = "union",
    max_instances: int = 4,
    seed: int = 0,
) -> Iterator[str]:
    """Draw rectangles into a temporary folder, register them as a dataset, and remove both at the end.

    Args:
        num_images: image ``i`` gets ``i % (max_instances + 1)`` rectangles at most, so that image 0 is empty.
        size: height and width in pixels of the first image; then (+3, -5), (+6, -10), and again.
        labels: the tasks that every image is labelled for, or one such sequence per image; with "classification" it
            is labelled as a whole, with the classes of its things; with "keypoint" the instances have the keypoints
            TOY_KEYPOINTS, of which the middle is on boxes alone.
        edge_source: "instance", "semantic" or "union"; an image without one of the two labels uses the other.
        max_instances: of one image.
        seed: of the drawing.

    Yields:
        The name of the dataset in DatasetCatalog and MetadataCatalog; ``image_root`` is in its metadata.
    """
    root = Path(tempfile.mkdtemp(prefix="mtl_d2_toy_"))
    name = f"mtl_d2_toy_{uuid.uuid4().hex[:8]}"
    labelled = per_image(labels, num_images)
    rng = np.random.default_rng(seed)
    try:
        records = []
        for i in range(num_images):
            height, width = size[0] + 3 * (i % 3), size[1] - 5 * (i % 3)
            record = _draw_scene(root, i, (height, width), i % (max_instances + 1), rng)
            records.append(_with_labels(record, labelled[i], edge_source))
        DatasetCatalog.register(name, lambda: [dict(record) for record in records])
        MetadataCatalog.get(name).set(
            thing_classes=list(TOY_THING_CLASSES),
            stuff_classes=list(TOY_STUFF_CLASSES),
            image_label_classes=list(TOY_THING_CLASSES),
            stuff_ids=list(TOY_STUFF_IDS),
            thing_dataset_id_to_contiguous_id={1: 0, 2: 1},
            ignore_label=255,
            edge_source=edge_source,
            max_dets=100,
            keypoint_names=list(TOY_KEYPOINTS),
            keypoint_flip_map=[TOY_KEYPOINTS[:2]],
            evaluator_type="mtl",
            image_root=str(root),
        )
        yield name
    finally:
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog.list():
                catalog.remove(name)
        shutil.rmtree(root, ignore_errors=True)


def _with_labels(record: dict[str, Any], labelled: Sequence[str], edge_source: str) -> dict[str, Any]:
    record = dict(record)
    if "classification" in labelled:
        record["image_labels"] = sorted({annotation["category_id"] for annotation in record["annotations"]})
    if "keypoint" in labelled:
        record["annotations"] = [{**a, "keypoints": _toy_keypoints(a)} for a in record["annotations"]]
    if "instance" not in labelled:
        del record["annotations"]
    if "sem_seg" not in labelled:
        del record["sem_seg_file_name"]
    if "edge" in labelled:
        if edge_source != "semantic" and "annotations" not in record:
            edge_source = "semantic"
        if edge_source != "instance" and "sem_seg_file_name" not in record:
            edge_source = "instance"
        record["edge_source"] = edge_source
    return record


def _toy_keypoints(annotation: dict[str, Any]) -> list[float]:
    x, y, width, height = annotation["bbox"]
    middle = [x + width / 2, y + height / 2, 2] if annotation["category_id"] == 0 else [0, 0, 0]
    return [*(x, y, 2), *(x + width, y, 1), *middle]


def _draw_scene(
    root: Path, index: int, size: tuple[int, int], num_instances: int, rng: np.random.Generator
) -> dict[str, Any]:
    height, width = size
    image = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
    sem_seg = np.zeros((height, width), np.uint8)
    image[:8] += np.uint8(100)
    sem_seg[:8] = 3
    sem_seg[-4:, -4:] = 255
    annotations = []
    # One rectangle per column band, so that they never overlap.
    band = width // max(num_instances, 1)
    for k in range(num_instances):
        category = int(rng.integers(0, len(TOY_THING_CLASSES)))
        x0, y0 = band * k + int(rng.integers(1, 4)), int(rng.integers(10, height // 2))
        x1, y1 = band * (k + 1) - 1, y0 + int(rng.integers(8, height // 2 - 4))
        image[y0:y1, x0:x1] = (200, 60, 60) if category == 0 else (60, 60, 200)
        sem_seg[y0:y1, x0:x1] = category + 1
        annotations.append(
            {
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": category,
                "segmentation": [[float(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]],
                "iscrowd": 0,
            }
        )
    file_name, sem_seg_file_name = root / f"{index:03d}.png", root / f"{index:03d}_semantic.png"
    Image.fromarray(image).save(file_name)
    Image.fromarray(sem_seg).save(sem_seg_file_name)
    return {
        "file_name": str(file_name),
        "height": height,
        "width": width,
        "image_id": index,
        "annotations": annotations,
        "sem_seg_file_name": str(sem_seg_file_name),
    }
