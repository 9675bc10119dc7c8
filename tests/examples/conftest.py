"""A few small scenes, and the commands of the examples as a person types them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_d2.data.shapes import Recipe, write_shapes

ROOT = Path(__file__).parents[2]
# Two steps of a network that is thin throughout.
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
    *("MODEL.FPN.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "50", "MODEL.RPN.POST_NMS_TOPK_TEST", "20"),
    *("INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", "96"),
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "1"),
    *("SOLVER.AMP.ENABLED", "False", "DATALOADER.NUM_WORKERS", "0"),
]
Run = Callable[..., str]


@pytest.fixture(scope="session")
def datasets(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(root / "shapes", Recipe(train=4, val=2, size=96), workers=1)
    return root


@pytest.fixture(scope="session")
def run(datasets: Path) -> Run:
    """Run a program, of this environment first, at the checkout's root; returns what it prints."""

    def run_command(*words: str | Path, check: bool = True, **variables: str) -> str:
        environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "PYTHONPATH": str(ROOT), **variables}
        environment.setdefault("OMP_NUM_THREADS", "2")
        programs = os.path.dirname(sys.executable)
        environment["PATH"] = os.pathsep.join([variables.get("PATH", programs), programs, os.environ["PATH"]])
        command = [sys.executable, *words] if str(words[0]).endswith(".py") else list(words)
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    return run_command
