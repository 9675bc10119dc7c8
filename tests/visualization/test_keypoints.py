"""Keypoints in panels: dots where they are, a cell beside the instances, labels in the second row."""

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, BoxMode, Instances

from mtl_d2.visualization import draw_panel, read_labels
from mtl_d2.visualization.keypoints import draw_keypoints
from mtl_d2.visualization.overlay import draw_overlay
from mtl_d2.visualization.reduce import reduce_for_drawing


@pytest.fixture
def metadata():
    rules = [("a", "b", (0, 255, 0))]
    return Metadata().set(thing_classes=["disk"], keypoint_names=["a", "b"], keypoint_connection_rules=rules)


@pytest.fixture
def prediction():
    points = torch.tensor([[[20.0, 30, 1], [60, 30, 1]]])
    return {
        "instances": Instances(
            (80, 100),
            pred_boxes=Boxes(torch.tensor([[10.0, 10, 70, 70]])),
            scores=torch.ones(1),
            pred_classes=torch.zeros(1, dtype=torch.long),
            pred_keypoints=points,
        )
    }


IMAGE = np.zeros((80, 100, 3), np.uint8)


def test_dots_are_where_the_keypoints_are_and_lines_between_them(metadata):
    points = torch.tensor([[[20.0, 30, 2], [60, 30, 1]], [[50, 60, 2], [90, 60, 0]]])
    picture = draw_keypoints(IMAGE, 2.0, points, metadata)
    assert picture.shape == (160, 200, 3)
    red, green = (picture[..., c].astype(int) for c in (0, 1))
    assert red[120, 100] > 100 and green[120, 100] < 50  # a dot that stands alone
    assert (green[60, [40, 80, 120]] > 100).all() and (red[60, [34, 126]] > 100).all()  # a line over two dots
    assert not picture[120, 180].any() and not picture[120, 140].any()  # one that is not labelled


def test_panel_has_a_cell_for_keypoints_and_their_labels(metadata, prediction):
    record = {
        "file_name": "a.png",
        "height": 80,
        "width": 100,
        "annotations": [
            {
                "bbox": [10, 10, 60, 60],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 0,
                "keypoints": [20, 30, 2, 0, 0, 0],
            },
            {"bbox": [10, 10, 60, 60], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0},
        ],
    }
    labels = read_labels(record)
    assert labels["keypoints"].tensor.tolist() == [[[20, 30, 2], [0, 0, 0]]] and len(labels["instances"]) == 2
    plain = {"instances": Instances((80, 100), **prediction["instances"].get_fields())}
    plain["instances"].remove("pred_keypoints")
    with_points = draw_panel(IMAGE, prediction, metadata, labels=labels)
    without = draw_panel(IMAGE, plain, metadata, labels=labels)
    assert with_points.shape[1] > without.shape[1] and with_points.shape[0] == without.shape[0]


def test_overlay_and_reduction_keep_them_in_place(metadata, prediction):
    drawn = draw_overlay(IMAGE, prediction, metadata).max(axis=2)
    assert drawn[30, 20] > 100 and drawn[30, 60] > 100
    large = np.zeros((160, 200, 3), np.uint8)
    double = prediction["instances"]
    double = Instances(
        (160, 200), **{**double.get_fields(), "pred_keypoints": double.pred_keypoints * torch.tensor([2, 2, 1])}
    )
    _, small = reduce_for_drawing(large, {"instances": double}, long_side=100)
    torch.testing.assert_close(small["instances"].pred_keypoints, prediction["instances"].pred_keypoints)
