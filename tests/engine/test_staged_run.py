"""Runs of several stages: what each starts from, what is left at the end, and where a resumed one goes on."""

import argparse
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode

from mtl_d2.engine import run
from mtl_d2.engine.initial_weights import average
from mtl_d2.engine.launch import launch
from mtl_d2.engine.record import read_record
from mtl_d2.engine.weights_file import WeightsError
from mtl_d2.testing import tiny_cfg, toy_dataset

TASKS = ("sem_seg", "edge")
SEPARATE = {"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"}
JOINT = {"MODEL.META_ARCHITECTURE": "MultiTaskFPN"}
STILL = {"SOLVER.BASE_LR": 0.0, "SOLVER.MAX_ITER": 1}  # a stage that shows what it started from
FROZEN_TRUNK = {"SOLVER.MTL.SCHEDULE.FREEZE": [{"PART": "backbone", "FROM": 0, "TO": -1}]}
# Two levels are enough of a network here, and its checkpoints are small.
SMALL = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_exact_levels_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3"],
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3"],
    "MODEL.MTL.EDGE_HEAD.IN_FEATURES": ["p2", "p3"],
}


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(4) as name:
        yield name


def config(dataset: str, output_dir: Path | str, *stages: dict, **overrides) -> CfgNode:
    options = {"OUTPUT_DIR": str(output_dir), "DATASETS.TEST": (), "SOLVER.MAX_ITER": 2, "SOLVER.BASE_LR": 0.002}
    cfg = tiny_cfg(TASKS, dataset, **{**SMALL, **options, **overrides})
    cfg.SOLVER.MTL.STAGES = list(stages)
    cfg.freeze()
    return cfg


def weights(folder: Path, name: str = "model_final.pth") -> dict[str, torch.Tensor]:
    return torch.load(folder / name, weights_only=True)["model"]


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("trunk", ["average", "edge"])
def test_joint_training_starts_from_the_trunks_and_heads_of_separate_networks(
    dataset: str, tmp_path: Path, trunk: str
) -> None:
    run.train(config(dataset, tmp_path, {"NAME": "separate", **SEPARATE}, {"NAME": "joint", "TRUNK": trunk, **STILL}))
    separate, joint = weights(tmp_path / "separate"), weights(tmp_path / "joint")
    for name, value in joint.items():
        if name.startswith("backbone."):
            of = TASKS if trunk == "average" else (trunk,)
            expected = average([separate[f"networks.{task}.{name}"] for task in of])
        else:
            expected = separate[f"networks.{'edge' if name.startswith('edge') else 'sem_seg'}.{name}"]
        assert torch.equal(value, expected), name
    assert_same(weights(tmp_path), joint)
    assert read_record(tmp_path / "report.json").iterations == 3


def test_separate_networks_go_on_from_the_joint_one(dataset: str, tmp_path: Path) -> None:
    stages = {"NAME": "joint", **JOINT}, {"NAME": "each", **STILL}
    run.train(config(dataset, tmp_path, *stages, **SEPARATE))
    joint = weights(tmp_path / "joint")
    for name, value in weights(tmp_path).items():
        assert torch.equal(value, joint[name.split(".", 2)[2]]), name


def test_heads_are_tuned_on_a_trunk_that_stands_still(dataset: str, tmp_path: Path) -> None:
    run.train(config(dataset, tmp_path, {"NAME": "joint"}, {"NAME": "heads", **FROZEN_TRUNK}))
    before, after = weights(tmp_path / "joint"), weights(tmp_path)
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"sem_seg_head", "edge_head"}


def test_the_last_network_is_scored_and_evaluated_with_the_totals_of_all_stages(dataset: str, tmp_path: Path) -> None:
    stages = {"NAME": "separate", **SEPARATE, "DATASETS.TEST": ()}, {"NAME": "joint", "TRUNK": "average"}
    cfg = config(dataset, tmp_path, *stages, **{"DATASETS.TEST": (dataset,)})
    results = run.train(cfg, config_file="configs/toy.yaml", overrides=["SEED", "1"])
    record, last = read_record(tmp_path / "report.json"), read_record(tmp_path / "joint" / "report.json")
    first = read_record(tmp_path / "separate" / "report.json")
    assert record.results == last.results
    assert record.results.keys() == results.keys() == set(TASKS)
    assert (record.iterations, first.iterations, last.iterations) == (4, 2, 2)
    assert record.seconds["train"] == first.seconds["train"] + last.seconds["train"]
    assert (record.config, record.overrides) == ("configs/toy.yaml", ["SEED", "1"])
    assert last.overrides[:2] == ["SEED", "1"] and "SOLVER.MTL.STAGES" in last.overrides
    assert (tmp_path / "separate" / "config.yaml").exists()

    (tmp_path / "config.yaml").write_text(cfg.dump())
    opts = ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]
    args = argparse.Namespace(config_file=str(tmp_path / "config.yaml"), opts=opts, resume=False, eval_only=True)
    assert run.run(args)["sem_seg"] == results["sem_seg"]
    assert read_record(tmp_path / "report_eval.json").iterations == 4


def test_a_resumed_run_goes_on_in_the_right_stage_bit_by_bit(dataset: str, tmp_path: Path, monkeypatch) -> None:
    stages = {"NAME": "separate", **SEPARATE}, {"NAME": "joint", "TRUNK": "average"}
    whole = config(dataset, tmp_path / "whole", *stages, **{"SOLVER.CHECKPOINT_PERIOD": 1})
    run.train(whole)
    trained: list[str] = []
    monkeypatch.setattr(
        run, "preflight", lambda cfg: trained.append(Path(cfg.OUTPUT_DIR).name)
    )  # once in each training
    for stopped, go_on in (("separate", ["separate", "joint"]), ("joint", ["joint"])):
        parts = tmp_path / stopped
        shutil.copytree(tmp_path / "whole", parts)
        for name in ("model_final.pth", "report.json", "model_0000001.pth"):
            (parts / stopped / name).unlink()
        (parts / stopped / "last_checkpoint").write_text("model_0000000.pth")
        (parts / "model_final.pth").unlink()
        trained.clear()
        run.train(config(dataset, parts, *stages), resume=True)
        assert trained == go_on
        assert_same(weights(parts), weights(tmp_path / "whole"))
    trained.clear()
    run.train(whole, resume=True)
    assert trained == []


def test_a_run_that_starts_anew_does_not_take_the_stages_of_an_earlier_one(dataset: str, tmp_path: Path) -> None:
    stages = {"NAME": "first"}, {"NAME": "second"}
    run.train(config(dataset, tmp_path, *stages))

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    counts = tmp_path / "second" / "class_counts.json"  # of labels that may have been others then
    counts.write_text("{}")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "fit", stop)
        run.train(config(dataset, tmp_path, *stages, SEED=2))
    assert not counts.exists()
    run.train(config(dataset, tmp_path, *stages, SEED=2), resume=True)
    run.train(config(dataset, tmp_path / "anew", *stages, SEED=2))
    assert_same(weights(tmp_path), weights(tmp_path / "anew"))


def test_a_drawn_seed_stays_that_of_the_run_and_its_final_network_is_the_last_checkpoint(
    dataset: str, tmp_path: Path, monkeypatch
) -> None:
    stages = {"NAME": "first", "DATASETS.TEST": ()}, {"NAME": "second"}
    cfg = config(dataset, tmp_path, *stages, SEED=-1, **{"DATASETS.TEST": (dataset,)})
    (tmp_path / "own.yaml").write_text(cfg.dump())

    def start(**words) -> dict:
        args = {"config_file": str(tmp_path / "own.yaml"), "opts": [], "resume": False, "eval_only": False, **words}
        return run.run(argparse.Namespace(**args))

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mtl_d2.engine.staged_run._start_from", stop)  # of the second stage
        start()
    seed = yaml.safe_load((tmp_path / "config.yaml").read_text())["SEED"]
    with pytest.raises(WeightsError, match="where there is none"):
        start(resume=True, eval_only=True)
    results = start(resume=True)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["SEED"] == seed
    assert read_record(tmp_path / "second" / "report.json").seed == seed + 1
    assert start(resume=True, eval_only=True) == results


def _train_in_two_processes(output_dir: str) -> None:
    with toy_dataset(4) as name:  # the same drawing, under a name of each process
        stages = {"NAME": "separate", **SEPARATE}, {"NAME": "joint", "TRUNK": "average", **FROZEN_TRUNK}
        run.train(config(name, output_dir, *stages))
        run.train(config(name, output_dir, *stages), resume=True)


@pytest.mark.slow
def test_stages_run_in_two_processes(tmp_path: Path) -> None:
    launch(_train_in_two_processes, 2, args=(str(tmp_path),), device="cpu")
    assert read_record(tmp_path / "report.json").iterations == 4
    separate = weights(tmp_path / "separate")
    name = "backbone.fpn_lateral2.weight"
    assert torch.equal(weights(tmp_path)[name], average([separate[f"networks.{task}.{name}"] for task in TASKS]))
