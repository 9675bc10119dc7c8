"""The task of a user's own: its label, loss and figures by hand; its training by the command of the example."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from mtl_d2 import TASK_REGISTRY
from mtl_d2.visualization.own_cells import OWN_CELLS

from .conftest import ROOT, SMALL

COMMAND = ["examples/depth.py", "--config-file", "examples/depth.yaml", *SMALL]


@pytest.fixture(scope="module")
def depth() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "examples"))
    import depth as module

    yield module
    sys.path.remove(str(ROOT / "examples"))
    del sys.modules["depth"]
    TASK_REGISTRY._obj_map.pop("depth")
    OWN_CELLS.pop("depth")


@pytest.fixture
def record(tmp_path: Path) -> dict:
    """Ten rows; a card on row 7, one that covers it, one by itself that touches the ground on row 4; void below."""
    semantic = np.ones((10, 12), np.uint8)
    masks = np.zeros((3, 10, 12), np.uint8)
    masks[0, 3:8, 1:4] = 1
    masks[1, 2:6, 4:6] = 1
    masks[2, 2:5, 8:10] = 1
    semantic[masks.any(axis=0)] = 0
    semantic[9, 6:] = 255
    cv2.imwrite(str(tmp_path / "semantic.png"), semantic)
    annotations = [{"segmentation": mask_util.encode(np.asfortranarray(mask))} for mask in masks]
    return {"file_name": "a.png", "annotations": annotations, "sem_seg_file_name": str(tmp_path / "semantic.png")}


def test_label_is_a_plane_with_cards_on_it_the_later_ones_in_front(depth, record) -> None:
    found = depth.shapes_depth(record)
    inverse = 1 / found[:9, 11]
    np.testing.assert_allclose(found[[0, 8], 11], [10, 1 / (0.1 + 0.4 * 8 / 9)], rtol=1e-5)
    np.testing.assert_allclose(np.diff(inverse), 0.4 / 9, rtol=1e-4)
    on_row = 1 / (0.1 + 0.4 * np.arange(10) / 9)
    np.testing.assert_allclose(found[3:8, 1:4], on_row[7], rtol=1e-5)
    np.testing.assert_allclose(found[2:6, 4:6], 0.9 * on_row[7], rtol=1e-5)
    np.testing.assert_allclose(found[2:5, 8:10], on_row[4], rtol=1e-5)
    assert (found[9, 6:] == 0).all() and (found > 0).sum() == 114
    assert depth.shapes_depth({"file_name": "a.png", "annotations": []}) is None


def test_label_follows_the_augmentation_and_an_unlabelled_image_gets_none(depth, record) -> None:
    from detectron2.data import transforms as T

    flip = T.TransformList([T.HFlipTransform(12)])
    label = depth.depth_target(record, flip)["depth"]
    assert torch.equal(label, torch.from_numpy(depth.shapes_depth(record)[:, ::-1].copy()))
    del record["sem_seg_file_name"]
    assert depth.depth_target(record, flip) == {}


def test_what_pads_an_image_has_no_depth(depth, record) -> None:
    from detectron2.data import transforms as T
    from fvcore.transforms.transform import PadTransform

    label = depth.shapes_depth(record)
    height, width = label.shape
    found = depth.depth_target(record, T.TransformList([PadTransform(0, 0, 5, 3, width, height, 0, 255)]))["depth"]
    assert found.shape == (height + 3, width + 5) and torch.equal(found[:height, :width], torch.from_numpy(label))
    assert (found[height:] == depth.INVALID).all() and (found[:, width:] == depth.INVALID).all()


def test_loss_of_a_wrong_scale_is_a_share_of_its_square(depth) -> None:
    true = torch.rand(2, 5, 6) + 1
    true[0, 0] = 0  # unknown
    wrong = (true.clamp(min=1e-3) * 3).log()
    assert depth.silog_loss(wrong, true, 1.0).item() == pytest.approx(0, abs=1e-6)
    assert depth.silog_loss(wrong, true, 0.0).item() == pytest.approx(np.log(3) ** 2, rel=1e-5)
    assert depth.silog_loss(wrong, true).item() == pytest.approx(np.log(3) ** 2 / 2, rel=1e-5)


def test_loss_without_a_known_pixel_is_zero_with_a_gradient(depth) -> None:
    predicted = torch.zeros(1, 4, 4, requires_grad=True)
    loss = depth.silog_loss(predicted, torch.zeros(1, 4, 4))
    loss.backward()
    assert loss.item() == 0 and torch.equal(predicted.grad, torch.zeros(1, 4, 4))


def test_figures_by_hand_over_all_known_pixels(depth) -> None:
    first = depth.depth_sums(np.array([[2.0, 9.0]]), np.array([[1.0, 0.0]]))
    second = depth.depth_sums(np.array([[4.0, 5.0, 3.0]]), np.array([[4.0, 4.0, 2.5]]))
    figures = depth.depth_figures(first + second)
    # relative errors 1, 0, 1/4, 1/5; a factor of 1.25 is not below 1.25
    assert figures == pytest.approx({"abs_rel": 1.45 / 4, "rmse": np.sqrt((1 + 0 + 1 + 0.25) / 4), "delta1": 0.5})
    assert all(np.isnan(value) for value in depth.depth_figures(np.zeros(4)).values())


def test_evaluator_scores_the_labelled_images(depth, record) -> None:
    unlabelled = {"file_name": "b.png"}
    DatasetCatalog.register("depth_toy", lambda: [record, unlabelled])
    try:
        evaluator = depth.DepthEvaluator("depth_toy")
    finally:
        DatasetCatalog.remove("depth_toy")
    outputs = [{"depth": torch.from_numpy(depth.shapes_depth(record)) * 1.1}, {"depth": torch.ones(3, 3)}]
    evaluator.process([{"file_name": "a.png"}, {"file_name": "b.png"}], outputs)
    figures = evaluator.evaluate()["depth"]
    assert evaluator.num_images == 1
    assert (figures["abs_rel"], figures["delta1"]) == (pytest.approx(0.1, rel=1e-5), 1)


def test_picture_is_brighter_where_it_is_nearer_and_grey_where_unknown(depth) -> None:
    picture = depth.draw_depth(np.array([[2.0, 4.0, 8.0, 0.0]])).astype(int)
    assert (np.diff(picture[0, :3].sum(axis=1)) < 0).all() and (picture[0, 3] == 150).all()


def test_example_trains_four_tasks_scores_and_draws_them(run, tmp_path: Path) -> None:
    run(*COMMAND, "OUTPUT_DIR", tmp_path)
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["images"] == {"instance": 2, "sem_seg": 2, "edge": 2, "depth": 2, "panoptic_seg": 2}
    assert set(record["results"]["depth"]) == {"abs_rel", "rmse", "delta1"}
    assert 0 < record["results"]["depth"]["abs_rel"] < 3
    logged = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert {"loss_edge", "balance/depth"} <= {key for line in logged for key in line}
    assert max(line.get("loss_depth", 0) for line in logged) > 0  # which it is not without labels
    assert (tmp_path / "model_best.pth").is_file()

    weights = ["--weights", tmp_path / "model_final.pth", "--output", tmp_path / "panels", "--num-images", "1"]
    command = ["tools/draw_panels.py", "--import", "examples/depth.py", "--config-file", "examples/depth.yaml"]
    run(*command, *weights, *SMALL)
    width = Image.open(next((tmp_path / "panels").glob("val*.png"))).size[0]
    assert width > 5 * 480  # image, instances, semantics, edges, panoptic, depth; cells of 480 pixels


@pytest.mark.slow
def test_example_trains_on_two_processes(run, tmp_path: Path) -> None:
    run(*COMMAND[:3], "--num-gpus", "2", *SMALL, "OUTPUT_DIR", tmp_path, OMP_NUM_THREADS="1")
    assert json.loads((tmp_path / "report.json").read_text())["images"]["depth"] == 2
