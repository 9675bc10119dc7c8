"""Every config builds and says only what differs; every distinct architecture trains a step and answers."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2.engine import setup_cfg
from mtl_d2.testing import ALL_TASKS, random_batched_inputs

CONFIGS = Path(__file__).parents[1] / "configs"
# Those of ablations/ and compare/ describe tables of configs: tests/comparison/.
YAMLS = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in ("ablations", "compare"))
LEAVES = [path for path in YAMLS if not path.name.startswith("Base-")]
LEAF_LINES = 15


def _name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def _flat(node: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _differences(path: Path) -> dict[str, object]:
    return _flat({k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "_BASE_"})


def _get(cfg: CfgNode, key: str):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize("path", YAMLS, ids=_name)
def test_config_differs_from_its_base_in_every_line(path):
    raw = yaml.safe_load(path.read_text())
    if "_BASE_" not in raw:
        assert path.name.startswith("Base-")
        return
    base, cfg = setup_cfg(str(path.parent / raw["_BASE_"])), setup_cfg(str(path))
    same = [key for key in _differences(path) if _get(cfg, key) == _get(base, key)]
    assert same == [], f"{_name(path)} repeats its base"


@pytest.mark.parametrize("path", LEAVES, ids=_name)
def test_leaf_is_short_and_says_what_it_is(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert len([line for line in lines if not line.startswith("#")]) <= LEAF_LINES


def _architectures() -> dict[str, Path]:
    """One leaf for each distinct MODEL section, weights aside; the large ones stand for their depth only."""
    found: dict[str, Path] = {}
    for path in LEAVES:
        model = setup_cfg(str(path)).MODEL.clone()
        model.WEIGHTS, model.DEVICE = "", "cpu"
        found.setdefault(json.dumps(model, sort_keys=True, default=str), path)
    return found


@pytest.mark.parametrize("path", _architectures().values(), ids=_name)
def test_architecture_trains_a_step_and_answers(path):
    small = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    cfg = setup_cfg(str(path), small)
    torch.manual_seed(0)
    model = build_model(cfg)
    inputs = random_batched_inputs(
        1,
        sizes=((64, 64),),
        tasks=(*ALL_TASKS, "keypoint", "classification"),
        num_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS,
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        num_sem_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
    )
    with EventStorage():
        losses = model(inputs * 2)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    (result,) = model.eval()(inputs)
    assert {model.branches[task].output_key for task in cfg.MODEL.MTL.TASKS} - {""} <= set(result)
