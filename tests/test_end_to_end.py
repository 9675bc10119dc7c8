"""From data on disk to a record and pictures, by the commands that a person types."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from mtl_d2.data.shapes import Recipe, write_shapes

ROOT = Path(__file__).parents[1]
SMALL = [
    *("MODEL.FPN.OUT_CHANNELS", "32", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "50", "MODEL.RPN.POST_NMS_TOPK_TEST", "20"),
    *("SOLVER.MAX_ITER", "2", "SOLVER.AMP.ENABLED", "False", "DATALOADER.NUM_WORKERS", "0"),
]


def _run(command: list[str], datasets: Path) -> str:
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(root / "shapes", Recipe(train=4, val=2, size=96), workers=1)
    return root


def test_train_evaluate_record_and_draw(shapes, tmp_path):
    config = ["--config-file", "configs/quick/shapes.yaml"]
    cosines = ["MODEL.MTL.BALANCER.COSINE_PERIOD", "1"]
    _run(["tools/train_net.py", *config, *SMALL, *cosines, "OUTPUT_DIR", str(tmp_path)], shapes)
    record = json.loads((tmp_path / "report.json").read_text())
    assert set(record["results"]) == {"bbox", "segm", "sem_seg", "edge", "panoptic_seg"}
    assert record["images"] == {"instance": 2, "sem_seg": 2, "edge": 2, "panoptic_seg": 2}
    assert record["iterations"] == 2 and record["seed"] == 1
    assert 0 <= record["results"]["sem_seg"]["mIoU"] <= 100
    assert 0 <= record["results"]["edge"]["ODS"] <= 1
    for name in ("model_final.pth", "metrics.json", "config.yaml", "last_checkpoint"):
        assert (tmp_path / name).is_file(), name

    logged = json.loads((tmp_path / "metrics.json").read_text().splitlines()[0])
    (events,) = map(str, tmp_path.glob("events.out.tfevents.*"))
    on_board = {value.tag for event in EventFileLoader(events).Load() for value in event.summary.value}
    for key in ("balance/edge", "balance_seconds", "task/instance", "cosine/instance/edge", "cosine_seconds"):
        assert key in logged and key in on_board, key

    panels = tmp_path / "panels"
    weights = str(tmp_path / "model_final.pth")
    drawing = ["--weights", weights, "--output", str(panels), "--num-images", "2"]
    _run(["tools/draw_panels.py", *config, *drawing, *SMALL], shapes)
    assert len(list(panels.glob("*.png"))) == 3
    assert Image.open(panels / "overview.png").size[0] > 4 * 96

    assert "mIoU" in _run(["tools/write_results.py", "--print", str(tmp_path)], shapes)


@pytest.mark.slow
def test_coco_mini_trains_ten_steps_evaluates_and_draws(tmp_path):
    datasets = Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    if not (datasets / "coco_mini").is_dir():
        pytest.skip(f"coco_mini is not under DETECTRON2_DATASETS ({datasets})")
    config = ["--config-file", "configs/quick/coco_mini.yaml"]
    _run(["tools/train_net.py", *config, "OUTPUT_DIR", str(tmp_path)], datasets)
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["iterations"] == 10
    assert record["images"] == {"instance": 11, "sem_seg": 11, "edge": 11, "panoptic_seg": 11}
    weights = str(tmp_path / "model_final.pth")
    _run(["tools/draw_panels.py", *config, "--weights", weights, "--output", str(tmp_path / "panels")], datasets)
    assert (tmp_path / "panels" / "overview.png").is_file()
