"""What the stages of a config are, and what is said of those that cannot be trained one after the other."""

import sys

import pytest

from mtl_d2.balancing import MissingExtraError
from mtl_d2.engine.config_checks import check_solver
from mtl_d2.engine.stages import read_stages
from mtl_d2.testing import tiny_cfg

SEPARATE = {"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"}
JOINT = {"MODEL.META_ARCHITECTURE": "MultiTaskFPN"}


def config(*stages: dict, **overrides):
    cfg = tiny_cfg(**overrides)
    cfg.SOLVER.MTL.STAGES = list(stages)
    cfg.freeze()
    return cfg


def test_a_stage_is_the_config_with_keys_of_its_own() -> None:
    cfg = config(
        {"NAME": "separate", **SEPARATE, "SOLVER.MAX_ITER": 7, "SOLVER.BASE_LR": 0.5},
        {"NAME": "joint", "TRUNK": "edge", "MODEL.MTL.BALANCER.WEIGHTS.edge": 3.0},
        OUTPUT_DIR="out",
    )
    first, second = read_stages(cfg)
    assert (first.cfg.OUTPUT_DIR, second.cfg.OUTPUT_DIR) == ("out/separate", "out/joint")
    assert (first.cfg.SEED, second.cfg.SEED) == (1, 2)
    assert (first.cfg.SOLVER.MAX_ITER, first.cfg.SOLVER.BASE_LR, first.is_separate) == (7, 0.5, True)
    assert (second.cfg.SOLVER.MAX_ITER, second.is_separate, second.trunk) == (cfg.SOLVER.MAX_ITER, False, "edge")
    assert second.cfg.MODEL.MTL.BALANCER.WEIGHTS.edge == 3.0 != cfg.MODEL.MTL.BALANCER.WEIGHTS.edge
    assert first.cfg.SOLVER.MTL.STAGES == [] != cfg.SOLVER.MTL.STAGES
    assert read_stages(tiny_cfg()) == []


FIRST = {"NAME": "a", **SEPARATE}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"SOLVER.MAX_ITER": 3}], "expected a NAME"),
        (["joint"], "expected a NAME"),
        ([{"NAME": "a/b"}], "expected a NAME"),
        ([{"NAME": "a"}, {"NAME": "a"}], r"the names \['a', 'a'\]: give each"),
        ([{"NAME": "a", "SOLVER.MAX_ITERS": 3}], "stage 'a' sets SOLVER.MAX_ITERS, .* did you mean SOLVER.MAX_ITER"),
        ([{"NAME": "a", "SOLVER.MAX_ITER": "many"}], "stage 'a' sets SOLVER.MAX_ITER many: "),
        ([{"NAME": "a", "SOLVER.MAX_ITER": 0}], "stage 'a': SOLVER.MAX_ITER is 0; expected at least 1 step"),
        ([{"NAME": "a", "OUTPUT_DIR": "x"}], "stage 'a' sets OUTPUT_DIR"),
        ([{"NAME": "a", "MODEL.MTL.TASKS": ["depth"]}], r"stage 'a': MODEL.MTL.TASKS is \['depth'\]; expected some of"),
        ([{"NAME": "a", "MODEL.MTL.TASKS": []}], r"stage 'a': MODEL.MTL.TASKS is \[\]; expected some of"),
        ([{"NAME": "a", "MODEL.META_ARCHITECTURE": "PanopticFPN"}], "'PanopticFPN'; expected MultiTaskFPN or Separate"),
        ([{"NAME": "a", "SOLVER.MTL.OPTIMIZER": "LION"}], "stage 'a': SOLVER.MTL.OPTIMIZER is 'LION'"),
        (
            [{**FIRST, "SOLVER.MTL.ACCUMULATE_STEPS": 2}, {"NAME": "b", "TRUNK": "edge"}],
            "stage 'a': SOLVER.MTL.ACCUMULATE_STEPS is 2; separate networks",
        ),
        ([{"NAME": "a"}, {"NAME": "b", "MODEL.WEIGHTS": "x.pth"}], "stage 'b' sets MODEL.WEIGHTS: only the first"),
        ([{"NAME": "a"}, {"NAME": "b", "MODEL.MTL.INIT.TRUNK": ["x"]}], "stage 'b' sets MODEL.MTL.INIT.TRUNK: only"),
        ([{"NAME": "a"}, {"NAME": "b", "TRUNK": "edge"}], "stage 'b' sets TRUNK, which is for a joint network"),
        (
            [FIRST, {"NAME": "b"}],
            "stage 'b': TRUNK is ''; expected whose backbone .*: instance, sem_seg, edge, average",
        ),
        ([FIRST, {"NAME": "b", "TRUNK": "depth"}], "stage 'b': TRUNK is 'depth'; expected"),
        (
            [{**FIRST, "MODEL.MTL.TASKS": ["edge"]}, {"NAME": "b", "TRUNK": "edge", "MODEL.MTL.TASKS": ["edge"]}],
            "stage 'b' has the task 'edge' alone, so that there is nothing to join",
        ),
        ([{"NAME": "a"}, {"NAME": "b", "MODEL.MTL.TASKS": ["edge"]}], "stage 'b' lacks the task 'instance'"),
        (
            [{**FIRST, "MODEL.MTL.TASKS": ["edge"]}, {"NAME": "b", **SEPARATE}],
            "expected those of the separate networks",
        ),
        ([FIRST], "META_ARCHITECTURE of the last stage, 'a', is SeparateTaskNetworks, that of the config MultiTaskFPN"),
        ([{"NAME": "a", "MODEL.MTL.TASKS": ["edge"]}], "MODEL.MTL.TASKS of the last stage, 'a'"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(stages: list, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_solver(config(*stages))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.MTL.BALANCER.NAME": "grad_norm"}, "stage 'b': MODEL.MTL.BALANCER.NAME is 'grad_norm'"),
        ({"MODEL.MTL.BALANCER.NAME": "upgrad"}, r"stage 'b': .*'upgrad', .*pip install 'mtl_d2\[balance\]'"),
        ({"SOLVER.MTL.MAX_BAD_STEPS": 0}, "stage 'b': SOLVER.MTL.MAX_BAD_STEPS is 0"),
        ({"DATALOADER.MTL.TASK_RATIOS.edge": 1.2}, "stage 'b': .*TASK_RATIOS.edge: found 1.2"),
    ],
)
def test_a_later_stage_is_checked_before_the_first_begins(keys: dict, message: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises((ValueError, MissingExtraError), match=message):
        check_solver(config({"NAME": "a"}, {"NAME": "b", **keys}))


def test_nested_keys_of_a_stage_are_merged_into_the_config() -> None:
    weights = {"instance": 1.0, "sem_seg": 1.3, "edge": 8.0}
    nested = {"NAME": "a", "SOLVER": {"MAX_ITER": 5}, "MODEL": {"MTL": {"BALANCER": {"WEIGHTS": {"edge": 2.0}}}}}
    (stage,) = read_stages(config(nested, **{"MODEL.MTL.BALANCER.WEIGHTS": weights}))
    assert stage.cfg.SOLVER.MAX_ITER == 5 and stage.cfg.SOLVER.MTL.OPTIMIZER
    assert dict(stage.cfg.MODEL.MTL.BALANCER.WEIGHTS) == {**weights, "edge": 2.0}
    with pytest.raises(ValueError, match="stage 'b' sets MODEL.WEIGHTS: only the first"):
        read_stages(config({"NAME": "a"}, {"NAME": "b", "MODEL": {"WEIGHTS": "x.pth"}}))


def test_tasks_may_be_added_and_scaled_steps_are_refused() -> None:
    grown = [{"NAME": "a", "MODEL.MTL.TASKS": ["edge"]}, {"NAME": "b"}]
    assert [stage.tasks for stage in read_stages(config(*grown))][0] == ["edge"]
    with pytest.raises(ValueError, match="REFERENCE_WORLD_SIZE"):
        read_stages(config(*grown, **{"SOLVER.REFERENCE_WORLD_SIZE": 2}))
