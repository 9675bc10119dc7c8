import importlib.util

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.structures import BoxMode

from mtl_d2.data import DatasetError, validate_records
from mtl_d2.data.datasets.cityscapes import SCHEMA, load_cityscapes_multitask

H, W = 16, 32
LABELS = """
from types import SimpleNamespace
labels = [SimpleNamespace(id=i, hasInstances=i >= 24, ignoreInEval=i in (29, 30)) for i in range(34)]
id2label = {label.id: label for label in labels}
name2label = {}
"""


@pytest.fixture
def folders(tmp_path):
    """One image in Cityscapes' layout: a car, a group of cars (crowd) and road."""
    images, labels = tmp_path / "leftImg8bit", tmp_path / "gtFine"
    for folder in (images / "bern", labels / "bern"):
        folder.mkdir(parents=True)
    instances = np.full((H, W), 7, np.uint16)
    instances[2:6, 4:10] = 26001
    instances[8:12, 4:10] = 26
    cv2.imwrite(str(images / "bern" / "x_leftImg8bit.png"), np.zeros((H, W, 3), np.uint8))
    cv2.imwrite(str(labels / "bern" / "x_gtFine_instanceIds.png"), instances)
    for name in ("labelIds", "labelTrainIds"):
        cv2.imwrite(str(labels / "bern" / f"x_gtFine_{name}.png"), np.where(instances > 7, 13, 0).astype(np.uint8))
    (labels / "bern" / "x_gtFine_polygons.json").write_text(f'{{"imgHeight": {H}, "imgWidth": {W}}}')
    return images, labels


def test_instances_and_semantics_are_joined_with_exact_boxes(folders, tmp_path, monkeypatch):
    helpers = tmp_path / "stub" / "cityscapesscripts" / "helpers"
    helpers.mkdir(parents=True)
    (helpers / "labels.py").write_text(LABELS)
    monkeypatch.syspath_prepend(str(tmp_path / "stub"))
    (record,) = load_cityscapes_multitask(*folders, "toy")
    validate_records([record], SCHEMA, check_files=True)
    crowd, car = record["annotations"]
    assert (crowd["iscrowd"], car["iscrowd"]) == (1, 0)
    assert car["category_id"] == SCHEMA.thing_classes.index("car")
    assert car["bbox"] == [4, 2, 10, 6] and car["bbox_mode"] == BoxMode.XYXY_ABS
    assert mask_util.area(car["segmentation"]) == 24
    assert record["sem_seg_file_name"].endswith("x_gtFine_labelTrainIds.png")


def test_a_missing_package_is_named(folders, monkeypatch):
    find_spec = importlib.util.find_spec
    hidden = "cityscapesscripts"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == hidden else find_spec(name, *a))
    with pytest.raises(DatasetError, match="dataset 'toy' needs cityscapesscripts, not installed; pip install"):
        load_cityscapes_multitask(*folders, "toy")
