"""The joint network on two ranks, one of them without edge and image labels in some steps; with a schedule too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from fvcore.common.param_scheduler import CosineParamScheduler

from mtl_d2.engine import evaluation
from mtl_d2.engine.fit import fit
from mtl_d2.engine.launch import create_ddp, launch, share_buffers
from mtl_d2.engine.run import build_schedule_hooks
from mtl_d2.engine.trainer import MultiTaskTrainer, seed_step
from mtl_d2.testing import ALL_TASKS, random_batched_inputs, tiny_cfg

STEPS, SEED, LR = 3, 5, 0.01
SCHEDULED = ("instance", "edge")
TASKS = (*ALL_TASKS, "classification")


def labels(step: int, rank: int) -> list[tuple[str, ...]]:
    return [("instance", "sem_seg") if (step, rank) == (1, 1) else TASKS] * 2


def shard(rank: int) -> Iterator[list[dict]]:
    for step in range(STEPS):
        yield random_batched_inputs(2, tasks=labels(step, rank), seed=10 * rank + step)


def make_model(cfg: CfgNode) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(cfg)


def _train(output_dir: str) -> None:
    model = make_model(tiny_cfg(TASKS))
    trainer = MultiTaskTrainer(
        create_ddp(model),
        lambda start: shard(comm.get_rank()),
        torch.optim.SGD(model.parameters(), lr=LR),
        seed=SEED,
    )
    fit(trainer, CosineParamScheduler(1, 1), max_iter=STEPS, output_dir=output_dir)


def _train_scheduled(output_dir: str, parts: int = 1) -> None:
    """Edges in the first steps, then instances; the backbone rests in the second one. Parts stand for ranks."""
    cfg = tiny_cfg(SCHEDULED)
    cfg.SOLVER.MTL.SCHEDULE.NAME = "alternating"
    cfg.SOLVER.MTL.SCHEDULE.PATTERN = ["edge", "edge", "instance"]
    cfg.SOLVER.MTL.SCHEDULE.FREEZE = [{"PART": "backbone", "FROM": 1, "TO": 2}]
    model = make_model(cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=0.01)
    hooks = build_schedule_hooks(cfg, model, optimizer)
    ranks = range(parts) if parts > 1 else [comm.get_rank()]

    def batches(start: int) -> Iterator[list[dict]]:
        for shards in zip(*(shard(rank) for rank in ranks), strict=True):
            yield [x for one in shards for x in one]

    trainer = MultiTaskTrainer(create_ddp(model), batches, optimizer, seed=SEED, accumulate_steps=parts)
    fit(trainer, CosineParamScheduler(1, 1), max_iter=STEPS, output_dir=output_dir, more_hooks=hooks)


def _share(output_dir: str) -> None:
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean += comm.get_rank() + 1.0
    norm.num_batches_tracked += comm.get_rank()
    share_buffers(norm)
    torch.save(norm.state_dict(), f"{output_dir}/{comm.get_rank()}.pth")


def test_before_scoring_all_ranks_get_the_statistics_of_the_first(tmp_path: Path, monkeypatch) -> None:
    launch(_share, 2, args=(str(tmp_path),), device="cpu")
    states = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1)]
    for state in states:
        assert state["running_mean"].tolist() == [1, 1] and state["num_batches_tracked"] == 0
    done: list[str] = []
    monkeypatch.setattr(evaluation, "share_buffers", lambda model: done.append("shared"))
    monkeypatch.setattr(evaluation, "build_evaluators", lambda *_: {})
    monkeypatch.setattr(evaluation, "build_multitask_test_loader", lambda *_: [])
    monkeypatch.setattr(evaluation, "inference_on_dataset", lambda *_: done.append("scored") or {})
    evaluation.evaluate_datasets(tiny_cfg(**{"DATASETS.TEST": ("any",)}), torch.nn.Identity())
    assert done == ["shared", "scored"]


@pytest.mark.slow
def test_two_ranks_of_a_schedule_equal_one_process_with_two_parts(tmp_path: Path) -> None:
    launch(_train_scheduled, 2, args=(str(tmp_path / "ranks"),), device="cpu")
    _train_scheduled(str(tmp_path / "parts"), parts=2)
    found, expected = (
        torch.load(tmp_path / folder / "model_final.pth", weights_only=True)["model"] for folder in ("ranks", "parts")
    )
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5)
    start = make_model(tiny_cfg(SCHEDULED)).state_dict()
    moved = {key.split(".")[0] for key, value in found.items() if (value - start[key]).abs().max() > 1e-4}
    assert moved == {"backbone", "edge_head", "proposal_generator", "roi_heads"}


@pytest.mark.slow
def test_two_ranks_equal_one_process_with_the_ranks_shards_as_micro_batches(tmp_path: Path) -> None:
    launch(_train, 2, args=(str(tmp_path),), device="cpu")
    found = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]

    model = make_model(tiny_cfg(TASKS))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    shards = [shard(0), shard(1)]
    for step in range(STEPS):
        optimizer.zero_grad()
        for rank in (0, 1):
            seed_step(SEED, rank, step)
            with EventStorage():
                losses = model(next(shards[rank]))
            ranks_with_edge = sum("edge" in labels(step, r)[0] for r in (0, 1))
            partial = losses.pop("loss_edge") + losses.pop("loss_classification")  # these labels come together
            (sum(losses.values()) / 2 + partial / ranks_with_edge).backward()
        optimizer.step()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5)
    assert any((found[key] - before[key]).abs().max() > 1e-3 for key in found)
