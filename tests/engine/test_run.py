"""Whole runs of the real network on the toy dataset: train, resume, evaluate, record."""

import argparse
import json
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from omegaconf import OmegaConf

from mtl_d2.engine import lazy, run
from mtl_d2.engine.evaluation import evaluate
from mtl_d2.engine.record import read_record
from mtl_d2.testing import tiny_cfg, toy_dataset


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(4) as name:
        yield name


def config(dataset: str, output_dir: Path, **overrides) -> CfgNode:
    cfg = tiny_cfg(dataset=dataset, **{"OUTPUT_DIR": str(output_dir), "SOLVER.MAX_ITER": 4, **overrides})
    cfg.freeze()
    return cfg


def weights(output_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(output_dir / "model_final.pth", weights_only=True)["model"]


SCHEDULED = {
    "SOLVER.MTL.SCHEDULE.NAME": "alternating",
    "SOLVER.MTL.SCHEDULE.FREEZE": [{"PART": "backbone", "FROM": 1, "TO": 3}],
    "SOLVER.MTL.PARTS.edge.LR_FACTOR": 2.0,
    "SOLVER.MTL.PARTS.backbone.LAYER_DECAY": 0.5,
    "SOLVER.MTL.EMA.ENABLED": True,
}


@pytest.mark.parametrize(
    "settings",
    [{"SOLVER.MTL.OPTIMIZER": "SGD"}, {"SOLVER.MTL.OPTIMIZER": "ADAMW"}, SCHEDULED],
    ids=["sgd", "adamw", "scheduled"],
)
def test_a_resumed_run_of_the_joint_network_is_bit_equal(dataset: str, tmp_path: Path, settings: dict) -> None:
    options = {"DATASETS.TEST": (), "SOLVER.BASE_LR": 0.001, **settings}
    torch.manual_seed(1)
    run.train(config(dataset, tmp_path / "whole", **{**options, "SOLVER.CHECKPOINT_PERIOD": 2}))
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "model_0000001.pth").write_bytes((tmp_path / "whole" / "model_0000001.pth").read_bytes())
    (parts / "last_checkpoint").write_text("model_0000001.pth")
    torch.manual_seed(2)
    run.train(config(dataset, parts, **options), resume=True)
    whole, resumed = weights(tmp_path / "whole"), weights(parts)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert read_record(parts / "report.json").iterations == 4


def test_the_record_is_there_before_the_evaluation_and_completed_by_it(
    dataset: str, tmp_path: Path, monkeypatch
) -> None:
    cfg = config(dataset, tmp_path, **{"SOLVER.MAX_ITER": 1, "SOLVER.MTL.BEST_METRIC": "sem_seg/mIoU"})
    original, seen = run.evaluate_datasets, []

    def spy(*args):
        seen.append(read_record(tmp_path / "report.json"))
        return original(*args)

    monkeypatch.setattr(run, "evaluate_datasets", spy)
    results = run.train(cfg, config_file="configs/toy.yaml", overrides=["SEED", "1"])
    record = read_record(tmp_path / "report.json")
    assert (seen[0].results, seen[0].iterations) == ({}, 1)
    assert record.results.keys() == results.keys() == {"bbox", "segm", "sem_seg", "edge", "panoptic_seg"}
    assert record.images == {"instance": 4, "sem_seg": 4, "edge": 4, "panoptic_seg": 4}
    assert (record.config, record.overrides, record.seed) == ("configs/toy.yaml", ["SEED", "1"], 1)
    assert record.seconds["train"] > 0 < record.seconds["eval"]
    assert (tmp_path / "model_best.pth").exists()

    # The same weights give the same figures in a process of their own.
    (tmp_path / "config.yaml").write_text(cfg.dump())
    args = argparse.Namespace(config_file=str(tmp_path / "config.yaml"), opts=[], resume=True, eval_only=True)
    assert run.run(args)["sem_seg"] == results["sem_seg"]
    assert read_record(tmp_path / "report_eval.json").iterations == 1


AVERAGED = {"ENABLED": True, "DECAY": 0.9, "WARMUP": False}


def test_what_a_run_with_an_average_reports_is_that_of_its_checkpoint(dataset: str, tmp_path: Path) -> None:
    averaged = {f"SOLVER.MTL.EMA.{key}": value for key, value in AVERAGED.items()}
    cfg = config(dataset, tmp_path / "run", **{"MODEL.MTL.TASKS": ["edge"], **averaged})
    (tmp_path / "config.yaml").write_text(cfg.dump())
    final, raw = tmp_path / "run" / "model_final.pth", tmp_path / "raw.pth"

    def results(name: str, weights: Path | str = "") -> dict:
        opts = ["OUTPUT_DIR", str(tmp_path / name), "MODEL.WEIGHTS", str(weights)]
        arguments = {"config_file": str(tmp_path / "config.yaml"), "opts": opts, "eval_only": bool(weights)}
        run.run(argparse.Namespace(resume=False, **arguments))
        return read_record(tmp_path / name / ("report_eval.json" if weights else "report.json")).results

    trained = results("run")
    torch.save({"model": torch.load(final, weights_only=True)["raw_model"]}, raw)
    assert trained == results("of_the_checkpoint", final)
    assert trained["edge"]["ODS"] != results("of_the_raw_weights", raw)["edge"]["ODS"]


@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_has_the_options_of_the_config(warmup: bool) -> None:
    network = torch.nn.Linear(2, 2)
    options = {f"SOLVER.MTL.EMA.{key}": value for key, value in {**AVERAGED, "WARMUP": warmup}.items()}
    ema = run.build_ema(tiny_cfg(**options), network)
    assert ema is not None and ema.model is network
    assert (ema.decay, ema.warmup) == (AVERAGED["DECAY"], warmup)
    assert run.build_ema(tiny_cfg(), network) is None


def test_several_test_sets_are_nested_by_name_and_none_is_an_error(dataset: str, tmp_path: Path) -> None:
    from detectron2.modeling import build_model

    with toy_dataset(2, seed=3) as other:
        cfg = config(dataset, tmp_path, **{"DATASETS.TEST": (dataset, other), "MODEL.MTL.TASKS": ["sem_seg"]})
        model = build_model(cfg)
        assert {name: list(groups) for name, groups in evaluate(cfg, model).items()} == {
            dataset: ["sem_seg"],
            other: ["sem_seg"],
        }
    with pytest.raises(ValueError, match="DATASETS.TEST is empty"):
        evaluate(config(dataset, tmp_path, **{"DATASETS.TEST": ()}), model)


def test_a_drawn_seed_of_a_lazy_config_outlives_an_evaluation(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lazy, "load_for_evaluation", lambda *args, **kwargs: {})
    monkeypatch.setattr(lazy, "evaluate", lambda cfg, model: argparse.Namespace(results={}))
    monkeypatch.setattr(lazy, "train", lambda *args, **kwargs: {})
    seeds = []
    monkeypatch.setattr(lazy, "instantiate", lambda model: torch.nn.Identity())
    for eval_only in (False, True):
        opts = ["train.seed=-1", f"train.output_dir={tmp_path}"]
        demo = "configs/shapes/lazy_demo.py"
        lazy.run(argparse.Namespace(config_file=demo, opts=opts, resume=False, eval_only=eval_only))
        seeds.append(yaml.safe_load((tmp_path / "config.yaml").read_text())["train"]["seed"])
        (tmp_path / "last_checkpoint").touch()
    assert seeds[0] == seeds[1] >= 0


def test_a_lazy_config_trains_resumes_and_records(dataset: str, tmp_path: Path) -> None:
    cfg = tiny_cfg(("sem_seg",), dataset)
    (tmp_path / "tiny.yaml").write_text(cfg.dump())
    lines = Path("configs/shapes/lazy_demo.py").read_text()
    lines = lines.replace('"demo.yaml"', '"tiny.yaml"').replace("shapes_val", dataset)
    lines = lines.replace(
        "(InstanceEvaluator, SemSegEvaluator, EdgeEvaluator, PanopticEvaluator)", "(SemSegEvaluator,)"
    )
    (tmp_path / "lazy.py").write_text(lines)
    output_dir = tmp_path / "out"

    def arguments(max_iter: int, resume: bool) -> argparse.Namespace:
        opts = [
            f"train.max_iter={max_iter}",
            f"train.output_dir={output_dir}",
            "train.best_metric=sem_seg/mIoU",
        ]
        return argparse.Namespace(config_file=str(tmp_path / "lazy.py"), opts=opts, resume=resume, eval_only=False)

    lazy.run(arguments(1, resume=False))
    results = lazy.run(arguments(2, resume=True))
    record = read_record(output_dir / "report.json")
    assert record.iterations == 2
    assert record.results["sem_seg"]["mIoU"] == pytest.approx(results["sem_seg"]["mIoU"])
    iterations = [json.loads(line)["iteration"] for line in (output_dir / "metrics.json").read_text().splitlines()]
    assert max(iterations) >= 1


def test_a_lazy_config_may_have_a_task_schedule_and_an_average(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny_cfg(("sem_seg", "edge"), dataset).dump())
    lines = Path("configs/shapes/lazy_demo.py").read_text()
    lines = lines.replace('"demo.yaml"', '"tiny.yaml"').replace("shapes_val", dataset)
    lines += """
from mtl_d2.engine import TaskSchedule
del dataloader["evaluator"]
train["ema"] = {"decay": 0.5, "warmup": False}
train["task_schedule"] = L(TaskSchedule)(
    tasks=["sem_seg", "edge"], max_iter="${train.max_iter}", windows={"edge": [1, 2]},
    freeze=[{"PART": "backbone", "FROM": 0, "TO": -1}],
)
"""
    (tmp_path / "lazy.py").write_text(lines)
    opts = ["train.max_iter=2", f"train.output_dir={tmp_path}", "train.checkpointer.period=1"]
    lazy.run(argparse.Namespace(config_file=str(tmp_path / "lazy.py"), opts=opts, resume=False, eval_only=False))
    first, last = (torch.load(tmp_path / f"model_000000{i}.pth", weights_only=True) for i in (0, 1))
    moved = {key.split(".")[0] for key in last["model"] if not torch.equal(last["model"][key], first["model"][key])}
    assert moved == {"sem_seg_head", "edge_head"}
    key = "edge_head.predictor.weight"
    expected = (first["raw_model"][key] + last["raw_model"][key]) / 2
    torch.testing.assert_close(last["model"][key], expected)


def test_a_lazy_evaluation_scores_the_same_statistics_on_all_ranks(monkeypatch) -> None:
    done = []
    monkeypatch.setattr(lazy, "instantiate", lambda node: [])
    monkeypatch.setattr(lazy, "share_buffers", lambda model: done.append(("shared", model)))
    monkeypatch.setattr(lazy, "inference_on_dataset", lambda model, *_: done.append(("scored", model)) or {})
    network = torch.nn.BatchNorm2d(1)
    lazy.evaluate(OmegaConf.create({"dataloader": {"evaluator": [], "test": []}}), network)
    assert done == [("shared", network), ("scored", network)]


def test_lazy_overrides_of_the_wrong_form_are_named(tmp_path: Path) -> None:
    args = argparse.Namespace(config_file="configs/shapes/lazy_demo.py", opts=["train.max_iter", "3"])
    with pytest.raises(ValueError, match="'train.max_iter' after .* key=value"):
        lazy.load_config(args)
