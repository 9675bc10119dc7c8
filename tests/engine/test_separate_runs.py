"""Separate networks trained together are, bit by bit, what runs with one task each make of them."""

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from omegaconf import OmegaConf

from mtl_d2.engine import lazy, run
from mtl_d2.engine.launch import launch
from mtl_d2.engine.record import read_record
from mtl_d2.testing import ALL_TASKS, tiny_cfg, toy_dataset

SEPARATE = ("MODEL.META_ARCHITECTURE", "SeparateTaskNetworks")


@pytest.fixture(scope="module")
def dataset():
    with toy_dataset(4) as name:
        yield name


def config(dataset: str, output_dir: Path | str, tasks=ALL_TASKS, options: tuple = ()) -> CfgNode:
    cfg = tiny_cfg(tasks, dataset, **{"OUTPUT_DIR": str(output_dir), "DATASETS.TEST": (), "SOLVER.BASE_LR": 0.002})
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model")
    weights = ("MODEL.MTL.BALANCER.WEIGHTS", {"instance": 1.0, "sem_seg": 0.5, "edge": 4.0})
    cfg.merge_from_list([*clip, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.5, *weights, *options])
    cfg.freeze()
    return cfg


def weights(output_dir: Path, name: str = "model_final.pth") -> dict[str, torch.Tensor]:
    return torch.load(output_dir / name, weights_only=True)["model"]


def assert_equal_to_single_runs(root: Path, tasks=ALL_TASKS) -> None:
    together = weights(root / "separate")
    for task in tasks:
        alone = weights(root / task)
        of_task = {key: value for key, value in together.items() if key.startswith(f"networks.{task}.")}
        assert len(of_task) == len(alone)
        for key, value in alone.items():
            assert torch.equal(value, of_task[f"networks.{task}.{key}"]), (task, key)


@pytest.mark.parametrize("optimizer", ["SGD", "ADAMW"])
def test_three_single_runs_equal_one_run_of_separate_networks(dataset: str, tmp_path: Path, optimizer: str) -> None:
    options = ("SOLVER.MTL.OPTIMIZER", optimizer)
    run.train(config(dataset, tmp_path / "separate", options=(*SEPARATE, *options)))
    for task in ALL_TASKS:
        run.train(config(dataset, tmp_path / task, (task,), options))
    assert_equal_to_single_runs(tmp_path)
    assert read_record(tmp_path / "separate" / "report.json").iterations == 3


def test_equal_weights_are_equal_for_separate_networks_too(dataset: str, tmp_path: Path) -> None:
    options = ("MODEL.MTL.BALANCER.NAME", "equal")
    run.train(config(dataset, tmp_path / "separate", ("sem_seg", "edge"), options=(*SEPARATE, *options)))
    for task in ("sem_seg", "edge"):
        run.train(config(dataset, tmp_path / task, (task,), options))
    assert_equal_to_single_runs(tmp_path, ("sem_seg", "edge"))


def test_a_lazy_config_clips_each_network_for_itself() -> None:
    model = build_model(tiny_cfg(("sem_seg", "edge"), **{"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"}))
    options = {"seed": 0, "clip_gradients": {"clip_type": "full_model", "clip_value": 0.5}}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trainer = lazy.build_trainer(OmegaConf.create({"train": options}), model, optimizer)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    trainer.clip_gradients(model.parameters())
    for network in model.networks.values():
        norm = torch.cat([p.grad.flatten() for p in network.parameters()]).norm()
        assert norm.item() == pytest.approx(0.5, rel=1e-2)


def test_a_resumed_run_is_bit_equal(dataset: str, tmp_path: Path) -> None:
    run.train(config(dataset, tmp_path / "whole", options=(*SEPARATE, "SOLVER.CHECKPOINT_PERIOD", 2)))
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "model_0000001.pth").write_bytes((tmp_path / "whole" / "model_0000001.pth").read_bytes())
    (parts / "last_checkpoint").write_text("model_0000001.pth")
    run.train(config(dataset, parts, options=SEPARATE), resume=True)
    whole, resumed = weights(tmp_path / "whole"), weights(parts)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert not all(torch.equal(whole[key], value) for key, value in weights(parts, "model_0000001.pth").items())


def _train_in_two_processes(root: str) -> None:
    with toy_dataset(4) as name:  # the same drawing, under a name of each process
        for task in ("sem_seg", "edge"):
            run.train(config(name, f"{root}/{task}", (task,)))
        run.train(config(name, f"{root}/separate", ("sem_seg", "edge"), SEPARATE))


@pytest.mark.slow
def test_two_processes_are_equal_to_single_runs_in_two_processes(tmp_path: Path) -> None:
    launch(_train_in_two_processes, 2, args=(str(tmp_path),), device="cpu")
    assert_equal_to_single_runs(tmp_path, ("sem_seg", "edge"))


def test_a_schedule_lets_whole_networks_stand_still(dataset: str, tmp_path: Path) -> None:
    # Edges in the first of two steps alone: that is what a run of one step makes of its network.
    norm = ("MODEL.RESNETS.NORM", "BN")  # with statistics that must not move either
    schedule = ("SOLVER.MTL.PARTS.edge.STOP", 1, *norm, "SOLVER.MTL.PARTS.backbone.LAYER_DECAY", 0.5)
    options = ("SOLVER.MAX_ITER", 2, "SOLVER.MTL.PARTS.edge.LR_SCHEDULER_NAME", "WarmupMultiStepLR", *schedule)
    run.train(config(dataset, tmp_path / "separate", ("sem_seg", "edge"), (*SEPARATE, *options)))
    run.train(config(dataset, tmp_path / "sem_seg", ("sem_seg",), ("SOLVER.MAX_ITER", 2, *schedule[2:])))
    run.train(config(dataset, tmp_path / "edge", ("edge",), ("SOLVER.MAX_ITER", 1, *schedule[2:])))
    assert_equal_to_single_runs(tmp_path, ("sem_seg", "edge"))
