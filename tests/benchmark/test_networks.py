"""Random networks that do the work of trained ones."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d

from mtl_d2.benchmark import networks
from mtl_d2.testing import random_batched_inputs, tiny_cfg


def test_frozen_norms_take_the_statistics_of_the_inputs():
    cfg = tiny_cfg(("edge",), **{"MODEL.RESNETS.NORM": "FrozenBN"})
    inputs = random_batched_inputs(2)
    network = networks.build_random(cfg, inputs, seed=0)
    statistics = []

    def take(module, args, output):  # at once: what follows works on the output in place
        statistics.append(torch.var_mean(output, dim=(0, 2, 3)))

    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.register_forward_hook(take)
    networks.answer(network, inputs)
    assert len(statistics) > 10
    for variance, mean in statistics:
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-2, rtol=0)
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-2, rtol=0)


def test_weights_go_by_name_and_none_may_lack():
    joint, edge = (networks.build_random(tiny_cfg(tasks), random_batched_inputs(1), seed) for tasks, seed in
                   ((("sem_seg", "edge"), 0), (("edge",), 1)))  # fmt: skip
    networks.copy_weights(joint, edge)
    assert all(torch.equal(value, joint.state_dict()[name]) for name, value in edge.state_dict().items())
    with pytest.raises(RuntimeError, match="sem_seg_head"):
        networks.copy_weights(edge, joint)


def test_score_threshold_lets_so_many_scores_pass(monkeypatch):
    monkeypatch.setattr(networks, "CANDIDATES", 5)
    cfg = tiny_cfg(("instance",), **{"MODEL.ROI_HEADS.NMS_THRESH_TEST": 1.0, "TEST.DETECTIONS_PER_IMAGE": 1000})
    inputs = random_batched_inputs(2)
    network = networks.build_random(cfg, inputs, seed=0)
    networks.set_score_threshold([network], inputs)
    assert sum(len(found["instances"]) for found in networks.answer(network, inputs)) == 2 * 5
