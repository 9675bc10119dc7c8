"""A COCO folder of two images with all that the format allows: polygons, both RLEs, a crowd, no object."""

import json
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util

from mtl_d2.data import DatasetSchema

H, W = 20, 30
SCHEMA = DatasetSchema(
    thing_classes=["cat", "dog"],
    stuff_classes=["sky", "cat", "dog"],
    stuff_ids=[0],
    edge_source="union",
    thing_dataset_id_to_contiguous_id={3: 0, 7: 1},
)


def box_mask() -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[2:8, 3:13] = 1
    return mask


def write_toy_coco(folder: Path) -> dict:
    """Write images/, semantic/ and instances.json; return the content of the json for tests that spoil it."""
    for name in ("images", "semantic"):
        (folder / name / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.full((H, W, 3), 90, np.uint8))
        cv2.imwrite(str(folder / "semantic" / f"{name}.png"), box_mask())
    compressed = mask_util.encode(np.asfortranarray(box_mask()))
    uncompressed = {"size": [H, W], "counts": [0, H * W]}
    segmentations = [
        [[3, 2, 13, 2, 13, 8, 3, 8]],
        {"size": [H, W], "counts": compressed["counts"].decode()},
        uncompressed,
    ]
    content = {
        "info": {},
        "images": [
            {"id": i, "file_name": name, "height": H, "width": W} for i, name in ((5, "a.jpg"), (9, "sub/b.jpg"))
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 5,
                "category_id": (3, 7, 7)[i],
                "bbox": [3, 2, 10, 6],
                "area": 60,
                "iscrowd": int(i == 2),
                "segmentation": segmentation,
            }
            for i, segmentation in enumerate(segmentations)
        ],
    }
    save(folder, content)
    return content


def save(folder: Path, content: dict) -> None:
    (folder / "instances.json").write_text(json.dumps(content))
