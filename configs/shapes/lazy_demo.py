"""The network and data of configs/shapes/demo.yaml as a LazyConfig: the network from yaml keys, the rest in Python.

It is trained in float32, with a longer warm-up.

    python tools/train_net.py --config-file configs/shapes/lazy_demo.py train.max_iter=200 optimizer.lr=0.001

Replace any ``L(...)`` by a call of your own: a network, a loader, an evaluator.
"""

import os

import torch
from detectron2.config import LazyCall as L
from detectron2.modeling import build_model
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler

from mtl_d2.data import build_multitask_test_loader, build_multitask_train_loader
from mtl_d2.engine import build_train_mapper, setup_cfg
from mtl_d2.evaluation import EdgeEvaluator, InstanceEvaluator, PanopticEvaluator, SemSegEvaluator

train = {
    "output_dir": "output/lazy_demo",
    "init_checkpoint": "",
    "device": "cpu",
    "seed": 1,
    "max_iter": 830,
    "eval_period": 0,
    "log_period": 20,
    "checkpointer": {"period": 500},
    "amp": {"enabled": False, "dtype": "bfloat16"},
    "ddp": {},
    "clip_gradients": {"clip_type": "full_model", "clip_value": 5.0},
    "best_metric": "segm/AP",
}

cfg = L(setup_cfg)(
    config_file=os.path.join(os.path.dirname(__file__), "demo.yaml"),
    opts=["MODEL.DEVICE", "${train.device}", "SEED", "${train.seed}"],
)
model = L(build_model)(cfg=cfg)

optimizer = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(weight_decay_norm=0.0),  # the trainer adds the model
    lr=0.0014,
    weight_decay=0.05,
)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_factor=0.001,
    warmup_length=0.1,
)

dataloader = {
    "train": L(build_multitask_train_loader)(cfg=cfg, mapper=L(build_train_mapper)(cfg=cfg)),
    "test": L(build_multitask_test_loader)(cfg=cfg, dataset_name="shapes_val"),
    "evaluator": [
        L(evaluator)(dataset_name="shapes_val")
        for evaluator in (InstanceEvaluator, SemSegEvaluator, EdgeEvaluator, PanopticEvaluator)
    ],
}
