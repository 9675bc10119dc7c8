"""What may be a reference."""

from types import SimpleNamespace

import pytest

from mtl_d2.comparison import ComparisonError, networks

from .toy import toy_comparison

METRICS = {"instance": "segm/AP", "keypoint": "keypoints/AP", "edge": "edge/ODS"}


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Checks references that are described by their tasks alone, ``{name: tasks}``; nothing is built."""

    def branch(task):
        depends_on = ("instance",) if task == "keypoint" else ()
        return SimpleNamespace(metric=METRICS[task], higher_is_better=True, depends_on=depends_on)

    def build(cfg):
        return SimpleNamespace(branches={task: branch(task) for task in cfg.MODEL.MTL.TASKS})

    monkeypatch.setattr(networks, "build_trial", build)
    monkeypatch.setattr(networks, "check_solver", lambda cfg, processes: None)

    def run(**references):
        described = {name: {"MODEL.MTL.TASKS": tasks} for name, tasks in references.items()}
        joint = {"joint": {"MODEL.MTL.TASKS": list(METRICS)}}
        with toy_comparison(tmp_path, references=described, joint=joint) as (comparison, _):
            return [metric.task for metric in networks.check_networks(comparison)]

    return run


def test_a_reference_may_have_the_tasks_that_its_own_depends_on(check):
    assert check(a=["instance"], b=["instance", "keypoint"], c=["edge"]) == ["instance", "keypoint", "edge"]


def test_a_reference_has_one_task_and_every_task_one_reference(check):
    with pytest.raises(ComparisonError, match="found instance, edge, expected one task, and those that it depends on"):
        check(a=["instance", "edge"])
    with pytest.raises(ComparisonError, match="joint is scored by keypoints/AP for 'keypoint', of which there is no"):
        check(a=["instance"], c=["edge"])
