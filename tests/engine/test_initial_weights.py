"""Networks put together from parts of several checkpoints, and what is said of a checkpoint that lacks its part."""

import logging
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from mtl_d2.engine import run
from mtl_d2.engine.checkpoint import load_weights
from mtl_d2.engine.initial_weights import WeightsError, average, load_initial_parts, load_parts
from mtl_d2.testing import ALL_TASKS, tiny_cfg, toy_dataset

SEPARATE = {"MODEL.META_ARCHITECTURE": "SeparateTaskNetworks"}
BATCH_NORMS = {"MODEL.RESNETS.NORM": "BN", "MODEL.FPN.OUT_CHANNELS": 16}


def save(folder: Path, task: str, seed: int, **overrides) -> tuple[str, nn.Module]:
    """Write a single-task checkpoint with random weights and statistics."""
    torch.manual_seed(seed)
    model = build_model(tiny_cfg((task,), **overrides))
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 2)
        elif "tracked" in name:
            buffer.fill_(10 * seed)
    path = folder / f"{task}.pth"
    torch.save({"model": model.state_dict()}, path)
    return str(path), model


def build(tasks=ALL_TASKS, **overrides) -> tuple:
    cfg = tiny_cfg(tasks, **overrides)
    torch.manual_seed(9)
    return cfg, build_model(cfg)


def test_a_chosen_trunk_and_each_head_from_its_own_checkpoint(tmp_path: Path, caplog) -> None:
    files, models = zip(*(save(tmp_path, task, seed) for seed, task in enumerate(ALL_TASKS)), strict=True)
    heads = dict(zip(ALL_TASKS, files, strict=True))
    cfg, joint = build(**{"MODEL.MTL.INIT.TRUNK": [files[1]], "MODEL.MTL.INIT.HEADS": heads})
    with caplog.at_level(logging.INFO):
        reports = load_parts(cfg, joint)
    state = joint.state_dict()
    for task, model in zip(ALL_TASKS, models, strict=True):
        for name, value in model.state_dict().items():
            if not name.startswith("backbone.") or task == ALL_TASKS[1]:
                assert torch.equal(state[name], value), (task, name)
    assert sum(report.loaded for report in reports) == len(state)
    assert f"MODEL.MTL.INIT.TRUNK from {files[1]}: " in caplog.text
    assert f"MODEL.MTL.INIT.HEADS.edge from {heads['edge']}: " in caplog.text


def test_an_averaged_trunk_has_the_means_of_weights_and_statistics_and_the_largest_count(tmp_path: Path) -> None:
    saved = [save(tmp_path, task, seed, **BATCH_NORMS) for seed, task in ((1, "sem_seg"), (2, "edge"))]
    files, states = [file for file, _ in saved], [model.state_dict() for _, model in saved]
    cfg, joint = build(**{"MODEL.MTL.INIT.TRUNK": files, **BATCH_NORMS})
    head = joint.edge_head.state_dict()
    load_parts(cfg, joint)
    for name in (f"backbone.bottom_up.stem.conv1.{end}" for end in ("weight", "norm.running_mean", "norm.running_var")):
        expected = (states[0][name].double() + states[1][name].double()) / 2
        torch.testing.assert_close(joint.state_dict()[name], expected.float(), rtol=0, atol=0)
        assert not torch.equal(states[0][name], states[1][name])
    assert joint.backbone.bottom_up.stem.conv1.norm.num_batches_tracked == 20
    assert all(torch.equal(value, head[name]) for name, value in joint.edge_head.state_dict().items())


def test_the_average_by_hand() -> None:
    values = [torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0]), torch.tensor([6.0, 5.0])]
    assert average(values).tolist() == [3.0, 3.0]
    assert average([torch.tensor(3), torch.tensor(7)]) == 7
    assert torch.equal(average([torch.tensor([0.1])]), torch.tensor([0.1]))


def test_separate_networks_from_single_task_checkpoints(tmp_path: Path) -> None:
    saved = {task: save(tmp_path, task, seed) for seed, task in enumerate(("sem_seg", "edge"))}
    files = {task: file for task, (file, _) in saved.items()}
    cfg, separate = build(("sem_seg", "edge"), **{"MODEL.MTL.INIT.NETWORKS": files, **SEPARATE})
    load_parts(cfg, separate)
    for task, (_, model) in saved.items():
        state = separate.network_of(task).state_dict()
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"HEADS": {"sem_seg": "edge.pth"}}, r"INIT.HEADS.sem_seg: .*edge.pth lacks \d+ of \d+ entries.*edge_head"),
        ({"HEADS": {"edge": "none.pth"}}, "INIT.HEADS.edge: there is no file .*none.pth"),
        ({"HEADS": {"depth": "edge.pth"}}, r"INIT.HEADS.depth: no such task in MODEL.MTL.TASKS \['sem_seg', 'edge'\]"),
        ({"HEADS": {"edge": "text.pth"}}, "INIT.HEADS.edge: .*text.pth is not a checkpoint"),
        ({"TRUNK": ["edge.pth", "wide.pth"]}, r"INIT.TRUNK: backbone.fpn_\w+.weight is .* in .*wide.pth and .* here"),
        (
            {"NETWORKS": {"edge": "edge.pth"}},
            "INIT.NETWORKS is not for a MultiTaskFPN, .*TRUNK, NECK and HEADS",
        ),
    ],
)
def test_what_cannot_be_loaded_is_named_with_part_and_file(tmp_path: Path, overrides, message: str) -> None:
    save(tmp_path, "edge", 1)
    (tmp_path / "text.pth").write_text("no weights")
    wide = tmp_path / "wide"
    wide.mkdir()
    Path(save(wide, "edge", 1, **{"MODEL.FPN.OUT_CHANNELS": 64})[0]).rename(tmp_path / "wide.pth")
    ((name, value),) = overrides.items()
    at = (
        [str(tmp_path / file) for file in value]
        if name == "TRUNK"
        else {k: str(tmp_path / v) for k, v in value.items()}
    )
    cfg, model = build(("sem_seg", "edge"), **{f"MODEL.MTL.INIT.{name}": at})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_parts(cfg, model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("to", [-1, 40])
def test_a_part_that_no_checkpoint_has_is_not_frozen_for_a_whole_run(tmp_path: Path, to: int) -> None:
    file, edge_file = (save(tmp_path, task, 1)[0] for task in ("sem_seg", "edge"))

    def load(part: str, to: int, weights: str = file, **overrides) -> None:
        freeze = {"SOLVER.MTL.SCHEDULE.FREEZE": [{"PART": part, "FROM": 0, "TO": to}], "SOLVER.MAX_ITER": 40}
        cfg, joint = build(("sem_seg", "edge"), **freeze, **overrides)
        load_initial_parts(cfg, joint, load_weights(joint, weights))

    message = rf"FREEZE holds edge in the whole run, but MODEL.WEIGHTS {file} lacks edge_head\..*INIT, or let the part"
    with pytest.raises(WeightsError, match=message):
        load("edge", to)
    load("edge", 20)
    load("sem_seg", to)
    load("edge", to, weights="")  # from scratch
    load("edge", to, **{"MODEL.MTL.INIT.HEADS": {"edge": edge_file}})


def test_a_run_starts_from_the_parts_and_a_resumed_one_does_not(tmp_path: Path) -> None:
    file, trained = save(tmp_path, "edge", 1)
    with toy_dataset(4) as dataset:
        parts = {"MODEL.MTL.INIT.TRUNK": [file], "MODEL.MTL.INIT.HEADS": {"edge": file}}
        options = {**parts, "OUTPUT_DIR": str(tmp_path / "out"), "DATASETS.TEST": (), "SOLVER.BASE_LR": 1e-4}
        run.train(tiny_cfg(("edge",), dataset, **{**options, "SOLVER.MAX_ITER": 1}))
        first = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["model"]
        assert all(torch.allclose(value, first[name], atol=1e-2) for name, value in trained.state_dict().items())
        Path(file).unlink()
        run.train(tiny_cfg(("edge",), dataset, **{**options, "SOLVER.MAX_ITER": 2}), resume=True)
