"""Every decoder can learn: eight easy scenes by heart, minutes on one core."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mtl_d2.data.shapes import Recipe, draw_scene
from mtl_d2.engine import setup_cfg
from mtl_d2.evaluation.sem_seg_figures import sem_seg_figures

CONFIGS = Path(__file__).parents[3] / "configs" / "decoders"
# Steps of Adam, and its largest rate. U-Net needs fewer steps, each of them long; SegNet, without skips, a higher rate.
LEAVES = {
    "fpn": (200, 0.003),
    "fcn": (200, 0.003),
    "segnet": (200, 0.01),
    "unet": (120, 0.003),
    "pspnet": (200, 0.003),
    "deeplabv3": (200, 0.003),
    "deeplabv3plus": (200, 0.003),
    "rspp": (200, 0.003),
}
CLASSES = ["things", "water", "sand", "gravel"]


def _scenes() -> list[dict]:
    recipe = Recipe(train=8, val=1, size=96, style="easy")
    scenes = [draw_scene(recipe, "train", i) for i in range(recipe.train)]
    return [
        {
            "image": torch.from_numpy(scene.image[:, :, ::-1].transpose(2, 0, 1).copy()),
            "sem_seg": torch.from_numpy(scene.semantic.astype(np.int64)),
        }
        for scene in scenes
    ]


def _miou(model: torch.nn.Module, scenes: list[dict]) -> float:
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for scene, answer in zip(scenes, model(scenes), strict=True):
        predicted, true = answer["sem_seg"].argmax(0).numpy(), scene["sem_seg"].numpy()
        np.add.at(confusion, (predicted[true != 255], true[true != 255]), 1)
    return sem_seg_figures(confusion, CLASSES)["mIoU"]


@pytest.mark.slow
@pytest.mark.parametrize("leaf", LEAVES)
def test_eight_scenes_are_learnt_by_heart(leaf: str) -> None:
    model_only = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    steps, rate = LEAVES[leaf]
    torch.manual_seed(0)
    model = build_model(setup_cfg(str(CONFIGS / f"{leaf}.yaml"), model_only))
    scenes = _scenes()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    with EventStorage():
        for _ in range(steps):
            optimizer.zero_grad()
            sum(model(scenes).values()).backward()
            optimizer.step()
            schedule.step()
    found = _miou(model.eval(), scenes)
    print(f"{leaf}: mIoU {found:.2f} after {steps} steps")
    assert found >= 95
