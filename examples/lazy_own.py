"""A LazyConfig of your own: configs/shapes/lazy_demo.py with other parts, which are Python objects.

python tools/train_net.py --config-file examples/lazy_own.py
python tools/train_net.py --config-file examples/lazy_own.py train.max_iter=100 optimizer.lr=0.02
"""

import torch
from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from mtl_d2.evaluation import EdgeEvaluator, SemSegEvaluator

from ..configs.shapes.lazy_demo import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/lazy_own"
train.max_iter = 300
train.best_metric = "sem_seg/mIoU"

# Another network: keys of the yaml that the network is built from, for the network and for its data alike.
for part in (model, dataloader.train, dataloader.train.mapper, dataloader.test):
    part.cfg.opts += ["MODEL.MTL.TASKS", "['sem_seg', 'edge']", "MODEL.MTL.EDGE_HEAD.LOSS", "focal"]

# Another optimizer: what the call had stays, unless it is removed.
optimizer._target_ = torch.optim.SGD
optimizer.lr, optimizer.momentum, optimizer.weight_decay = 0.01, 0.9, 0.0001
lr_multiplier.scheduler.end_value = 0.01

# Other augmentations, in the order in which they are applied.
dataloader.train.mapper.augmentations = [
    L(T.RandomBrightness)(intensity_min=0.8, intensity_max=1.2),
    L(T.RandomCrop)(crop_type="relative", crop_size=[0.8, 0.8]),
    L(T.RandomFlip)(prob=0.5),
]

# Other evaluators: of the tasks that are left.
dataloader.evaluator = [L(SemSegEvaluator)(dataset_name="shapes_val"), L(EdgeEvaluator)(dataset_name="shapes_val")]
