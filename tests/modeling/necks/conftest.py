"""Features of four levels with odd sizes, and every neck on them."""

from collections.abc import Callable, Mapping

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from torch import Tensor

from mtl_d2.config import add_mtl_config
from mtl_d2.modeling import Neck, build_neck

LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}  # the last one as of a max-pool
SIZES = [(93, 70), (61, 83)]  # of images, padded to 96 x 96 where that is not said


@pytest.fixture
def input_shape() -> dict[str, ShapeSpec]:
    return {name: ShapeSpec(channels=32, stride=stride) for name, stride in LEVELS.items()}


@pytest.fixture
def make_features() -> Callable[..., dict[str, Tensor]]:
    """Random features; a size that no stride divides is rounded up on each level."""

    def make(num_images: int = 2, size: tuple[int, int] = (96, 96), seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: torch.randn(num_images, 32, *(-(-side // stride) for side in size), generator=generator)
            for name, stride in LEVELS.items()
        }

    return make


@pytest.fixture
def make_neck(input_shape: Mapping[str, ShapeSpec]) -> Callable[..., Neck]:
    """A neck for the tasks "instance" and "edge"; options are keys below MODEL.MTL.NECK."""

    def make(name: str, **options: object) -> Neck:
        torch.manual_seed(0)
        return build_neck(neck_cfg(name, **options), input_shape)

    return make


def neck_cfg(name: str, **options: object) -> CfgNode:
    cfg = get_cfg()
    add_mtl_config(cfg)
    cfg.MODEL.MTL.TASKS = ["instance", "edge"]
    cfg.merge_from_list(["MODEL.MTL.NECK.NAME", name])
    for key, value in options.items():
        cfg.merge_from_list([f"MODEL.MTL.NECK.{key.replace('__', '.')}", value])
    return cfg
