"""The average of the weights: its values, what is evaluated and saved, resume, and ranks."""

from pathlib import Path

import pytest
import torch
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn

from mtl_d2.engine.checkpoint import MultiTaskCheckpointer, load_weights
from mtl_d2.engine.ema import ModelEma
from mtl_d2.engine.fit import fit
from mtl_d2.engine.launch import create_ddp, launch
from mtl_d2.engine.trainer import MultiTaskTrainer

from .toy import ToyNetwork, batches, toy_network

STEPS = 6


class NormedNetwork(ToyNetwork):
    """With a batch norm, and so statistics and a counter, in the backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone["bottom_up"] = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))


def network() -> NormedNetwork:
    torch.manual_seed(0)
    return NormedNetwork()


def train(
    model: nn.Module, output_dir: Path, max_iter: int = STEPS, *, averaged=True, warmup=False, load=batches, **options
) -> tuple[MultiTaskTrainer, ModelEma]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = MultiTaskTrainer(create_ddp(model), load, optimizer, seed=5)
    ema = ModelEma(model, 0.5, warmup=warmup)
    scheduler = LRMultiplier(optimizer, CosineParamScheduler(1, 0.1), max_iter=STEPS)
    options["ema"] = ema if averaged else None
    fit(trainer, scheduler, max_iter=max_iter, output_dir=str(output_dir), **options)
    return trainer, ema


def saved(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key


@pytest.mark.parametrize("warmup", [False, True])
def test_it_is_the_hand_computed_average_of_weights_and_statistics(warmup: bool, tmp_path: Path) -> None:
    trainer, ema = train(network(), tmp_path, checkpoint_period=1, warmup=warmup)
    raw = [saved(tmp_path / f"model_{i:07d}.pth")["raw_model"] for i in range(STEPS)]
    for key in ("edge_head.weight", "backbone.bottom_up.0.bias", "backbone.bottom_up.1.running_var"):
        expected = raw[0][key]
        for step, state in enumerate(raw[1:], start=1):
            decay = min(0.5, (1 + step) / (10 + step)) if warmup else 0.5
            expected = decay * expected + (1 - decay) * state[key]
        torch.testing.assert_close(ema.average.state_dict()[key], expected)
        assert not torch.equal(expected, raw[-1][key])
    for key in ("balancer.log_variance", "backbone.bottom_up.1.num_batches_tracked"):
        assert torch.equal(ema.average.state_dict()[key], trainer.model.state_dict()[key]), key


def test_the_warmup_forgets_the_first_steps() -> None:
    assert [ModelEma(network(), 0.5).decay_at(step) for step in (0, 5, 100)] == pytest.approx([0.1, 0.4, 0.5])
    assert ModelEma(network(), 0.5, warmup=False).decay_at(0) == 0.5


def test_checkpoints_hold_the_average_as_model_and_the_trained_weights_beside_it(tmp_path: Path) -> None:
    trainer, ema = train(network(), tmp_path)
    checkpoint = saved(tmp_path / "model_final.pth")
    assert_same(checkpoint["model"], ema.average.state_dict())
    assert_same(checkpoint["raw_model"], trainer.model.state_dict())
    loaded = network()
    load_weights(loaded, str(tmp_path / "model_final.pth"))
    assert_same(loaded.state_dict(), ema.average.state_dict())


def test_the_training_is_that_without_an_average(tmp_path: Path) -> None:
    with_average, _ = train(network(), tmp_path / "a")
    without, _ = train(network(), tmp_path / "b", averaged=False)
    assert_same(with_average.model.state_dict(), without.model.state_dict())


def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(tmp_path: Path) -> None:
    train(network(), tmp_path / "whole")
    train(network(), tmp_path / "parts", 3)
    torch.manual_seed(7)
    train(NormedNetwork(), tmp_path / "parts", resume=True)
    whole, parts = (saved(tmp_path / name / "model_final.pth") for name in ("whole", "parts"))
    assert_same(whole["model"], parts["model"])
    assert_same(whole["raw_model"], parts["raw_model"])


def test_training_starts_from_the_weights_that_were_loaded(tmp_path: Path) -> None:
    initial = network()
    nn.init.constant_(initial.edge_head.weight, 0.25)
    torch.save({"model": initial.state_dict()}, tmp_path / "initial.pth")
    model = network()
    before: dict[str, torch.Tensor] = {}
    model.forward = _keeping_the_first_state(model, before)
    train(model, tmp_path, 1, weights=str(tmp_path / "initial.pth"))
    assert_same(before, initial.state_dict())


def test_a_run_without_an_average_goes_on_with_one_and_not_the_other_way_round(tmp_path: Path) -> None:
    first, _ = train(network(), tmp_path, 3, averaged=False)
    model = NormedNetwork()
    before = {}
    model.forward = _keeping_the_first_state(model, before)
    train(model, tmp_path, resume=True)
    assert_same(before, first.model.state_dict())
    with pytest.raises(ValueError, match=r"model_final.pth is of a run with SOLVER.MTL.EMA.ENABLED True: set it"):
        train(network(), tmp_path, averaged=False, resume=True)
    MultiTaskCheckpointer(network(), str(tmp_path)).resume_or_load("", resume=True)  # as --eval-only does


def _keeping_the_first_state(model: nn.Module, kept: dict):
    forward = type(model).forward

    def keep(batch: list[dict]) -> dict[str, torch.Tensor]:
        if not kept:
            kept.update({key: value.clone() for key, value in model.state_dict().items()})
        return forward(model, batch)

    return keep


def test_the_best_checkpoint_is_the_average(tmp_path: Path) -> None:
    averages = []
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = MultiTaskTrainer(model, batches, optimizer, seed=5)
    ema = ModelEma(model)
    figures = iter([0.5, 0.8, 0.3])

    def evaluate() -> dict:
        averages.append({key: value.clone() for key, value in ema.average.state_dict().items()})
        return {"segm": {"AP": next(figures)}}

    fit(
        trainer,
        LRMultiplier(optimizer, CosineParamScheduler(1, 1), max_iter=3),
        max_iter=3,
        output_dir=str(tmp_path),
        evaluate=evaluate,
        eval_period=1,
        best_metric="segm/AP",
        ema=ema,
    )
    assert_same(saved(tmp_path / "model_best.pth")["model"], averages[1])


def _train_on_this_rank(output_dir: str) -> None:
    rank = comm.get_rank()
    torch.manual_seed(rank)  # ranks that start apart are made equal by DDP, and so must their averages be
    model = ToyNetwork()
    model.unused.requires_grad_(False)
    _, ema = train(model, Path(output_dir), 3, load=lambda start: batches(start, rank))
    torch.save(ema.average.state_dict(), Path(output_dir) / f"average_{rank}.pth")


def test_all_ranks_have_the_same_average(tmp_path: Path) -> None:
    launch(_train_on_this_rank, 2, dist_url="auto", args=(str(tmp_path),), device="cpu")
    averages = [saved(tmp_path / f"average_{rank}.pth") for rank in (0, 1)]
    assert_same(*averages)
    assert_same(averages[0], saved(tmp_path / "model_final.pth")["model"])
    assert not torch.equal(averages[0]["edge_head.weight"], toy_network().edge_head.weight)
