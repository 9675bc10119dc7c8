"""A tiny network with random weights in a file, whose group norms do not tie its pixels together."""

import pytest
import torch
from detectron2.modeling import build_model

from mtl_d2.testing import tiny_cfg, toy_dataset

LEVELS = ["p2"]
RADIUS = 40  # pixels around a pixel that its dense answers depend on: no normalisation is over the image
LOCAL = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_exact_levels_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2"],
    "MODEL.FPN.IN_FEATURES": ["res2"],
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16]],
    "MODEL.RPN.IN_FEATURES": LEVELS,
    "MODEL.ROI_HEADS.IN_FEATURES": LEVELS,
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": LEVELS,
    "MODEL.SEM_SEG_HEAD.NORM": "",
    "MODEL.MTL.EDGE_HEAD.IN_FEATURES": LEVELS,
    "MODEL.MTL.EDGE_HEAD.NORM": "",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
}


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(4, (64, 96)) as name:
        yield name


@pytest.fixture(scope="module")
def cfg(dataset):
    return tiny_cfg(dataset=dataset, **LOCAL)


@pytest.fixture(scope="module")
def model(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    return path
