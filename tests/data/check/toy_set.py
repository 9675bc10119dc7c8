"""A valid COCO folder of six images of 32 x 32, kept in memory so that faults are planted before it is written."""

import copy
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mtl_d2.data import DatasetSchema, register_coco_multitask

SIZE, COUNT = 32, 6
NAME = "toy_check"
SCHEMA = DatasetSchema(
    thing_classes=["cat", "dog"],
    stuff_classes=["background", "cat", "dog"],
    stuff_ids=[0],
    edge_source="union",
    thing_dataset_id_to_contiguous_id={1: 0, 2: 1},
)


@dataclass
class ToySet:
    """The content of the json, and the bytes of the other files by their path below the folder."""

    content: dict
    files: dict[str, bytes]

    def write(self, folder: Path) -> None:
        for name, data in {**self.files, "instances.json": json.dumps(self.content).encode()}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def annotation(self, image: int, number: int = 0) -> dict:
        """The first (polygon) or the second (compressed RLE) annotation of an image."""
        return self.content["annotations"][2 * image + number]


def png(pixels: np.ndarray | Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, "PNG", **options)
    return stream.getvalue()


def jpeg(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def label() -> np.ndarray:
    """The semantic label of every image: a cat at x 4-12, y 6-16, a dog at x 18-28, y 10-30, a void corner."""
    ids = np.zeros((SIZE, SIZE), np.uint8)
    ids[6:16, 4:12], ids[10:30, 18:28], ids[:2, :2] = 1, 2, 255
    return ids


def rle(mask: np.ndarray) -> dict:
    encoded = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def _annotations(image: int) -> list[dict]:
    common = {"image_id": image + 1, "iscrowd": 0}
    polygon = [[4, 6, 12, 6, 12, 16, 4, 16]]
    return [
        {**common, "id": 2 * image + 1, "category_id": 1, "bbox": [4, 6, 8, 10], "segmentation": polygon},
        {**common, "id": 2 * image + 2, "category_id": 2, "bbox": [18, 10, 10, 20], "segmentation": rle(label() == 2)},
    ]


def _build() -> ToySet:
    rng = np.random.default_rng(0)
    files = {}
    for i in range(COUNT):
        pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        files[f"images/{i}.png"] = png(pixels)
        files[f"semantic/{i}.png"] = png(label())
    content = {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "height": SIZE, "width": SIZE} for i in range(COUNT)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [annotation for i in range(COUNT) for annotation in _annotations(i)],
    }
    return ToySet(content, files)


_VALID = _build()


def valid_set() -> ToySet:
    """A copy that may be spoiled."""
    return ToySet(copy.deepcopy(_VALID.content), dict(_VALID.files))


def register(folder: Path, name: str = NAME, schema: DatasetSchema = SCHEMA) -> str:
    """Register what was written."""
    paths = folder / "instances.json", folder / "images", folder / "semantic"
    register_coco_multitask(name, schema, *paths, replace=True)
    return name


def forget(*names: str) -> None:
    for name in names:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)
