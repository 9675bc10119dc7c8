"""The price of balancing: gradients are checked against the weights that a method logs, and then timed."""

import pytest
import torch

from mtl_d2.benchmark import balance
from mtl_d2.engine.feature_cut import FeatureCut

METHODS = ("--methods", "uncertainty", "famo", "upgrad")
COMPARED = ["uncertainty", "famo", "upgrad on features", "upgrad on parameters, every 4 steps"]


def test_every_method_is_timed_beside_a_plain_sum_of_as_many_steps(run) -> None:
    status, record = run("balance", "--quick", "--device", "cpu", *METHODS)
    assert status == 0 and record["equal"] and len(record["checks"]) == 1 + len(COMPARED)
    assert [c["numerator"] for c in record["comparisons"]] == COMPARED
    plain = [c["denominator"] for c in record["comparisons"]]
    assert plain == [["plain sum"]] * 3 + [["plain sum, 4 steps"]]
    assert all(c["goal"] is None and c["ratio"]["low"] > 0.2 for c in record["comparisons"])


def test_equality_holds_with_prior_weights(run) -> None:
    weight = ("--", "MODEL.MTL.BALANCER.WEIGHTS.edge", "3.0")
    status, record = run("balance", "--quick", "--device", "cpu", "--methods", "uncertainty", "gradnorm", *weight)
    assert status == 0 and record["equal"] and len(record["checks"]) == 4


def test_equality_is_asserted_in_float32_where_bfloat16_is_timed(run, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []
    monkeypatch.setattr(balance, "_compare", lambda methods, *_: timed.extend(methods) or [])
    status, record = run("balance", "--quick", "--device", "cpu", "--bf16", "--methods", "uncertainty")
    assert status == 0 and all(c["difference"] < 1e-4 for c in record["checks"])
    assert [method.trainer.precision.dtype for method in timed] == [torch.bfloat16] * 2


def test_a_method_that_does_not_do_what_it_logs_is_not_timed(run, monkeypatch: pytest.MonkeyPatch) -> None:
    backward = FeatureCut.backward
    monkeypatch.setattr(FeatureCut, "backward", lambda cut, w: backward(cut, {task: -x for task, x in w.items()}))
    status, record = run("balance", "--quick", "--device", "cpu", *METHODS)
    assert status == 1 and record["comparisons"] == []
    assert [c["name"].split()[2] for c in record["checks"] if c["difference"] > c["tolerance"]] == ["upgrad"]


def test_an_unknown_method_is_refused(run, capsys) -> None:
    status, _ = run("balance", "--quick", "--device", "cpu", "--methods", "upgrade")
    assert status == 2
    assert "--methods upgrade: expected some of aligned_mtl" in capsys.readouterr().err
