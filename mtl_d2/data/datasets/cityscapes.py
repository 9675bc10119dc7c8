"""Cityscapes (fine) with instances and semantics, joined from Detectron2's two loaders."""

import functools
import importlib.util
from pathlib import Path

from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES
from detectron2.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic

from mtl_d2.data.datasets.coco_format import require_path
from mtl_d2.data.datasets.register import register_dataset
from mtl_d2.data.schema import DatasetError, DatasetSchema

_THINGS = [c for c in CITYSCAPES_CATEGORIES if c["isthing"]]

SCHEMA = DatasetSchema(
    thing_classes=[c["name"] for c in _THINGS],
    stuff_classes=[c["name"] for c in CITYSCAPES_CATEGORIES],
    stuff_ids=[c["trainId"] for c in CITYSCAPES_CATEGORIES if not c["isthing"]],
    edge_source="union",
    thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(_THINGS)},
    thing_colors=[c["color"] for c in _THINGS],
    stuff_colors=[c["color"] for c in CITYSCAPES_CATEGORIES],
)


def register(root: Path, *, replace: bool = False) -> None:
    """Register cityscapes_fine_train_mtl and cityscapes_fine_val_mtl, under ``root``/cityscapes."""
    folder = root / "cityscapes"
    for split in ("train", "val"):
        name = f"cityscapes_fine_{split}_mtl"
        image_dir, gt_dir = folder / "leftImg8bit" / split, folder / "gtFine" / split
        load = functools.partial(load_cityscapes_multitask, image_dir, gt_dir, name)
        register_dataset(name, load, SCHEMA, replace=replace, image_root=str(image_dir), gt_dir=str(gt_dir))


def load_cityscapes_multitask(image_dir: Path, gt_dir: Path, dataset_name: str) -> list[dict]:
    """Records with RLE masks of the instanceIds images (they do not overlap) and labelTrainIds semantics.

    Raises:
        DatasetError: a folder, the labelTrainIds images or the package cityscapesscripts are missing.
    """
    where = f"dataset '{dataset_name}'"
    for path in (image_dir, gt_dir):
        require_path(path, where)
    if importlib.util.find_spec("cityscapesscripts") is None:
        raise DatasetError(f"{where} needs cityscapesscripts, not installed; pip install cityscapesscripts.")
    try:
        semantic = {r["file_name"]: r for r in load_cityscapes_semantic(str(image_dir), str(gt_dir))}
        records = load_cityscapes_instances(str(image_dir), str(gt_dir), from_json=False, to_polygons=False)
    except AssertionError as error:  # Detectron2's form of "a file is missing"
        raise DatasetError(f"{where}: under {image_dir} and {gt_dir}: {error}") from error
    for record in records:
        record["sem_seg_file_name"] = semantic[record["file_name"]]["sem_seg_file_name"]
        record["edge_source"] = SCHEMA.edge_source
        for annotation in record["annotations"]:
            _correct(annotation)
    return records


def _correct(annotation: dict) -> None:
    # Detectron2 gives the last pixel as the far corner, one pixel short for XYXY_ABS, in numpy types.
    x0, y0, x1, y1 = (int(v) for v in annotation["bbox"])
    annotation["bbox"] = [x0, y0, x1 + 1, y1 + 1]
    annotation["iscrowd"] = int(annotation["iscrowd"])
