"""Fixed weights and the balancer's interface."""

import pytest
import torch
from detectron2.config import get_cfg

from mtl_d2.balancing import FixedBalancer, build_balancer
from mtl_d2.config import add_mtl_config


def _losses():
    a, b, c = (torch.tensor(v, requires_grad=True) for v in (1.0, 2.0, 4.0))
    return {"instance": {"loss_cls": a, "loss_mask": b}, "edge": {"loss_edge": c}}


def test_sum_is_the_weighted_sum_of_the_title():
    losses = _losses()
    flat, weights = FixedBalancer({"instance": 0.5, "edge": 3.0})(losses, {"instance", "edge"})
    total = sum(flat.values())
    assert total.item() == 0.5 * (1 + 2) + 3 * 4
    assert {task: w.item() for task, w in weights.items()} == {"instance": 0.5, "edge": 3.0}
    total.backward()
    assert losses["instance"]["loss_cls"].grad == 0.5
    assert losses["edge"]["loss_edge"].grad == 3


def test_weight_of_one_changes_no_bit():
    value = torch.tensor(0.1, requires_grad=True)
    flat, _ = FixedBalancer({"edge": 1.0})({"edge": {"loss_edge": value}}, {"edge"})
    assert torch.equal(flat["loss_edge"], value)


def test_task_without_a_label_is_passed_on_and_not_weighed():
    losses = _losses()
    losses["edge"] = {"loss_edge": torch.zeros((), requires_grad=True)}
    flat, weights = FixedBalancer({"instance": 2.0, "edge": 3.0})(losses, {"instance"})
    assert set(flat) == {"loss_cls", "loss_mask", "loss_edge"}
    assert set(weights) == {"instance"}
    assert flat["loss_edge"] is losses["edge"]["loss_edge"]


def test_two_tasks_with_one_loss_name_are_refused():
    losses = {"a": {"loss": torch.ones(())}, "b": {"loss": torch.ones(())}}
    with pytest.raises(ValueError, match="'loss' of task 'b'"):
        FixedBalancer({"a": 1.0, "b": 1.0})(losses, {"a", "b"})


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_impossible_weights_name_their_key(weight):
    with pytest.raises(ValueError, match=r"MODEL\.MTL\.BALANCER\.WEIGHTS\.edge"):
        FixedBalancer({"edge": weight})


def _cfg():
    cfg = get_cfg()
    add_mtl_config(cfg)
    return cfg


def test_weight_of_an_unknown_task_is_refused():
    cfg = _cfg()
    cfg.MODEL.MTL.BALANCER.WEIGHTS.egde = 1.0
    with pytest.raises(ValueError, match=r"WEIGHTS\.egde: no task is called 'egde'.*'edge'"):
        build_balancer(cfg, ["edge"], ["edge", "instance", "sem_seg"])


def test_unknown_method_lists_the_known():
    cfg = _cfg()
    cfg.MODEL.MTL.BALANCER.NAME = "magic"
    with pytest.raises(ValueError, match="'magic'.*'fixed'"):
        build_balancer(cfg, ["edge"], ["edge", "instance", "sem_seg"])
