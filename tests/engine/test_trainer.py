"""The training step: resume, ranks, mixed precision, clipping, and what it says when something is wrong."""

import copy
import json
import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from fvcore.common.param_scheduler import CosineParamScheduler

from mtl_d2.balancing import DWABalancer, FAMOBalancer, RLWBalancer
from mtl_d2.engine.bad_steps import DivergedError
from mtl_d2.engine.checkpoint import MultiTaskCheckpointer
from mtl_d2.engine.fit import fit
from mtl_d2.engine.launch import create_ddp, launch, unwrap
from mtl_d2.engine.optimizer import gradient_clipper
from mtl_d2.engine.trainer import MultiTaskTrainer, seed_step
from mtl_d2.engine.weights_file import WeightsError
from mtl_d2.testing import random_batched_inputs, tiny_cfg

from .toy import ToyNetwork, batches, labelled_images, multitask_network, toy_network

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def make_trainer(model: ToyNetwork, optimizer: str = "sgd", load=batches, **options) -> MultiTaskTrainer:
    return MultiTaskTrainer(model, load, OPTIMIZERS[optimizer](model.parameters()), seed=5, **options)


def run(trainer: MultiTaskTrainer, max_iter: int, output_dir: Path, schedule: int = 6, **options) -> None:
    scheduler = LRMultiplier(trainer.optimizer, CosineParamScheduler(1, 0.1), max_iter=schedule)
    fit(trainer, scheduler, max_iter=max_iter, output_dir=str(output_dir), **options)


def assert_same_state(a: torch.nn.Module, b: torch.nn.Module) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(tmp_path: Path, optimizer: str) -> None:
    whole = make_trainer(toy_network(), optimizer)
    run(whole, 6, tmp_path / "whole")

    first = make_trainer(toy_network(), optimizer)
    run(first, 3, tmp_path / "parts")
    torch.manual_seed(77)  # the state that the process happens to be in must not matter
    second = make_trainer(ToyNetwork(), optimizer)
    run(second, 6, tmp_path / "parts", resume=True)

    assert second.start_iter == 3
    assert_same_state(whole.model, second.model)
    assert not torch.equal(first.model.edge_head.weight, second.model.edge_head.weight)


def test_a_run_does_not_resume_one_of_another_optimizer_or_of_other_groups(tmp_path: Path) -> None:
    run(make_trainer(toy_network()), 1, tmp_path)
    with pytest.raises(WeightsError, match=r"gives AdamW, but .* the state of SGD -- so --resume cannot go on from .*"):
        run(make_trainer(toy_network(), "adamw"), 2, tmp_path, resume=True)
    trainer = make_trainer(toy_network())
    trainer.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))]})
    with pytest.raises(WeightsError, match=r"the optimizer's groups are others, as of other SOLVER.MTL.PARTS .*"):
        run(trainer, 2, tmp_path, resume=True)


def test_a_run_that_goes_on_with_other_options_than_the_configs_says_so(tmp_path: Path, caplog) -> None:
    run(make_trainer(toy_network()), 1, tmp_path)
    for rate, said in ((0.1, False), (0.05, True)):
        trainer = make_trainer(toy_network())
        trainer.optimizer.param_groups[0]["lr"] = rate
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run(trainer, 2, tmp_path, resume=True)
        words = "options of the checkpoint, such as initial_lr 0.1, not with those of the config, such as 0.05"
        assert (words in caplog.text) == said and trainer.optimizer.param_groups[0]["initial_lr"] == 0.1


def test_a_run_of_more_steps_than_asked_for_is_not_cut_short(tmp_path: Path) -> None:
    run(make_trainer(toy_network()), 3, tmp_path)
    with pytest.raises(WeightsError, match=r"has 3 iterations, more than SOLVER.MAX_ITER .*, 2: say the longer one"):
        run(make_trainer(toy_network()), 2, tmp_path, resume=True)


def test_without_a_period_the_final_checkpoint_is_the_only_one(tmp_path: Path) -> None:
    run(make_trainer(toy_network()), 2, tmp_path)
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_final.pth"]


def test_the_best_weights_are_kept_where_the_last_evaluation_failed_at_first(tmp_path: Path) -> None:
    def fail():
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError, match="no space"):
        run(make_trainer(toy_network()), 2, tmp_path, evaluate=fail, best_metric="segm/AP")
    assert (tmp_path / "model_final.pth").is_file() and not (tmp_path / "model_best.pth").is_file()
    results = {"evaluate": lambda: {"segm": {"AP": 0.7}}, "best_metric": "segm/AP"}
    run(make_trainer(toy_network()), 2, tmp_path, resume=True, **results)
    figure = torch.load(tmp_path / "model_best.pth", weights_only=True)["figure"]
    assert (figure["value"], figure["iteration"]) == (0.7, 2)
    assert json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])["segm/AP"] == 0.7


def test_a_resumed_run_remembers_how_long_a_task_has_seen_no_label(tmp_path: Path) -> None:
    def load(start: int):
        return (labelled_images(step, 0, labels=("instance", "sem_seg")) for step in range(start, 3))

    models = [multitask_network(FAMOBalancer(dict.fromkeys(("instance", "sem_seg", "edge"), 1.0))) for _ in range(2)]
    for model, steps in zip(models, (2, 3), strict=True):
        run(make_trainer(model, load=load), steps, tmp_path, resume=True)
        assert model.patience.steps == {"instance": 0, "sem_seg": 0, "edge": steps}


def test_resume_of_a_finished_run_only_evaluates(tmp_path: Path) -> None:
    run(make_trainer(toy_network()), 2, tmp_path)
    calls = []
    run(make_trainer(toy_network()), 2, tmp_path, resume=True, evaluate=lambda: calls.append(1) or {})
    assert calls == [1]


def _train_on_this_rank(output_dir: str) -> None:
    rank = comm.get_rank()
    model = toy_network()
    model.unused.requires_grad_(False)  # DDP wants a gradient for every parameter that may have one
    trainer = make_trainer(create_ddp(model), load=lambda start: batches(start, rank))
    run(trainer, 3, Path(output_dir))


def test_two_processes_equal_one_that_averages_the_gradients_of_their_shards(tmp_path: Path) -> None:
    launch(_train_on_this_rank, 2, dist_url="auto", args=(str(tmp_path),), device="cpu")
    found = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]

    model = toy_network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    scheduler = LRMultiplier(optimizer, CosineParamScheduler(1, 0.1), max_iter=6)
    shards = [batches(0, rank) for rank in (0, 1)]
    for iteration in range(3):
        optimizer.zero_grad()
        for rank, shard in enumerate(shards):
            seed_step(5, rank, iteration)
            (sum(model(next(shard)).values()) / 2).backward()
        optimizer.step()
        scheduler.step()
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)


def test_bf16_runs_on_a_cpu_and_changes_the_forward(tmp_path: Path) -> None:
    half, full = make_trainer(toy_network(), amp_dtype="bfloat16"), make_trainer(toy_network())
    run(half, 2, tmp_path / "half")
    run(full, 2, tmp_path / "full")
    weight, reference = half.model.edge_head.weight, full.model.edge_head.weight
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, reference)
    torch.testing.assert_close(weight, reference, rtol=0.05, atol=0.01)


def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="AMP_DTYPE float16 needs a GPU"):
        make_trainer(toy_network(), amp_dtype="float16")


@pytest.mark.parametrize("clip_type", ["value", "norm", "full_model"])
def test_clipping_bounds_gradients_and_skips_parameters_without_one(tmp_path: Path, clip_type: str) -> None:
    trainer = make_trainer(toy_network(), clip_gradients=gradient_clipper(clip_type, 1e-3))
    run(trainer, 1, tmp_path)
    grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert trainer.model.unused.weight.grad is None
    bounded = {
        "value": max(g.abs().max() for g in grads),
        "norm": max(g.norm() for g in grads),
        "full_model": torch.cat([g.flatten() for g in grads]).norm(),
    }[clip_type]
    assert 0.9e-3 < bounded < 1.001e-3


def test_a_step_with_a_nan_is_named_skipped_and_counted(tmp_path: Path, caplog) -> None:
    model = toy_network()
    model.nan_at = 2
    trainer, states = make_trainer(model, log_period=4), []
    step = trainer.after_step
    trainer.after_step = lambda: (
        states.append(copy.deepcopy((model.state_dict(), trainer.optimizer.state_dict()))),
        step(),
    )
    with caplog.at_level(logging.WARNING):
        run(trainer, 4, tmp_path, checkpoint_period=2)
    assert "iteration=2 on rank 0: loss_edge (task 'edge') = nan" in caplog.text
    for key, value in states[1][0].items():
        assert torch.equal(value, states[2][0][key]), key
    momenta = [state[1]["state"] for state in states]
    assert all(torch.equal(s["momentum_buffer"], momenta[2][i]["momentum_buffer"]) for i, s in momenta[1].items())
    assert not torch.equal(states[3][0]["edge_head.weight"], states[2][0]["edge_head.weight"])
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["trainer"]["bad_steps"] == 1
    line = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert line["bad_steps"] == 1 and np.isfinite(line["loss_edge"])


def test_a_gradient_that_is_not_finite_is_named_by_its_parameter(tmp_path: Path, caplog) -> None:
    model = toy_network()
    model.edge_head.bias.register_hook(lambda gradient: gradient / 0)
    with pytest.raises(DivergedError, match="2 steps in a row .* the gradient of edge_head.bias"):
        run(make_trainer(model, max_bad_steps=2), 8, tmp_path)


def test_too_many_bad_steps_in_a_row_stop_the_run_with_the_last_good_state(tmp_path: Path) -> None:
    model = toy_network()
    trainer = make_trainer(model, max_bad_steps=3)
    good = {}
    forward = model.forward

    def diverge(batch: list[dict]) -> dict[str, torch.Tensor]:
        losses = forward(batch)
        if trainer.iter < 2:
            return losses
        good.setdefault("weight", model.edge_head.weight.detach().clone())
        return {**losses, "loss_sem_seg": losses["loss_sem_seg"] * float("inf")}

    model.forward = diverge
    with pytest.raises(
        DivergedError, match=r"3 steps .*iteration=4 on rank 0: loss_sem_seg \(task 'sem_seg'\) = -?inf"
    ):
        run(trainer, 30, tmp_path, schedule=30)
    found = torch.load(tmp_path / "model_0000004.pth", weights_only=True)
    assert torch.equal(found["model"]["edge_head.weight"], good["weight"])
    second = make_trainer(ToyNetwork())
    run(second, 6, tmp_path, schedule=30, resume=True)
    assert second.start_iter == 5


@pytest.mark.parametrize("main_process", [True, False])
def test_no_process_ends_before_the_checkpoint_of_a_diverged_run_is_written(
    main_process: bool, tmp_path: Path, monkeypatch
) -> None:
    model, done = toy_network(), []
    model.nan_at = 1
    monkeypatch.setattr(comm, "is_main_process", lambda: main_process)
    monkeypatch.setattr(comm, "synchronize", lambda: done.append("all are here"))
    monkeypatch.setattr(MultiTaskCheckpointer, "save", lambda self, name: done.append(name))
    with pytest.raises(DivergedError):
        run(make_trainer(model, max_bad_steps=1), 3, tmp_path)
    assert done == ["model_0000001"] * main_process + ["all are here"]


def test_a_bad_step_between_good_ones_does_not_stop_the_run(tmp_path: Path) -> None:
    model = toy_network()
    model.nan_at = 1
    trainer = make_trainer(model, max_bad_steps=2)
    forward = model.forward

    def every_other(batch: list[dict]) -> dict[str, torch.Tensor]:
        model.nan_at = model.steps if model.steps % 2 else -1
        return forward(batch)

    model.forward = every_other
    run(trainer, 6, tmp_path)
    assert trainer.bad_steps.total == 3


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
@pytest.mark.parametrize("hard_regions", [False, True])
def test_a_network_of_instances_skips_a_step_whose_predictions_are_not_finite(
    box_loss: str, hard_regions: bool, tmp_path: Path, caplog
) -> None:
    keys = ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE")
    ohem = {"MODEL.MTL.ROI_HEADS.OHEM.ENABLED": hard_regions}
    model = build_model(tiny_cfg(("instance",), **dict.fromkeys(keys, box_loss), **ohem))

    def load(start: int):
        for step in range(start, 9):
            batch = random_batched_inputs(2, tasks=("instance",))
            if step == 1:
                batch[0]["image"] = batch[0]["image"].float().index_fill(1, torch.tensor([3]), float("inf"))
            yield batch

    trainer = make_trainer(model, load=load)
    with caplog.at_level(logging.WARNING):
        run(trainer, 3, tmp_path)
    assert trainer.bad_steps.total == 1 and "(task 'instance') = nan" in caplog.text
    assert (tmp_path / "model_final.pth").is_file()


def overflow_above(trainer: MultiTaskTrainer, weight: torch.nn.Parameter, scale: float) -> None:
    """Scale the gradients as for float16, and let those of a weight overflow where the scale is larger."""
    trainer.precision.scaler = scaler = torch.amp.GradScaler("cpu")
    weight.register_hook(lambda gradient: gradient / 0 if scaler.get_scale() > scale else gradient)


@pytest.mark.parametrize("balancer", [partial(DWABalancer, period=1), FAMOBalancer, partial(RLWBalancer, seed=0)])
def test_a_step_whose_scaled_gradients_overflow_leaves_no_trace_but_a_lower_scale(balancer, tmp_path: Path) -> None:
    model = multitask_network(balancer({"instance": 1.0, "sem_seg": 1.0, "edge": 1.0}))
    trainer = make_trainer(model, load=lambda start: iter([labelled_images(step, 0) for step in range(start, 3)]))
    overflow_above(trainer, model.backbone.stem.weight, 2.0**14)
    states, step = [copy.deepcopy(model.state_dict())], trainer.after_step
    trainer.after_step = lambda: (states.append(copy.deepcopy(model.state_dict())), step())
    trainer.train(0, 3)
    for skipped in states[1:3]:
        assert all(torch.equal(value, states[0][key]) for key, value in skipped.items())
    assert not torch.equal(states[3]["backbone.stem.weight"], states[0]["backbone.stem.weight"])
    assert any(not torch.equal(states[3][key], states[0][key]) for key in states[0] if key.startswith("balancer."))
    assert trainer.precision.scaler.get_scale() == 2.0**14
    assert (trainer.bad_steps.total, trainer.bad_steps.in_a_row) == (2, 0)


def test_gradients_that_overflow_at_any_scale_end_the_run(tmp_path: Path) -> None:
    model = toy_network()
    trainer = make_trainer(model, max_bad_steps=3)
    overflow_above(trainer, model.edge_head.bias, -1.0)
    with pytest.raises(DivergedError, match="3 steps in a row .* the gradient of edge_head.bias"):
        run(trainer, 100, tmp_path, schedule=100)
    assert trainer.bad_steps.total == 17 + 3  # from 2^16 down to 1, and three below


def test_scaled_gradients_are_clipped_and_taken_as_those_that_are_not(tmp_path: Path) -> None:
    scaled, plain = (make_trainer(toy_network(), clip_gradients=gradient_clipper("norm", 1e-3)) for _ in range(2))
    scaled.precision.scaler = torch.amp.GradScaler("cpu")
    run(scaled, 3, tmp_path / "scaled")
    run(plain, 3, tmp_path / "plain")
    for key, value in plain.model.state_dict().items():
        torch.testing.assert_close(scaled.model.state_dict()[key], value)


def test_a_checkpoint_of_a_diverged_model_is_refused(tmp_path: Path) -> None:
    class Poison(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter == 2:
                self.trainer.model.unused.weight.data.fill_(torch.nan)

    trainer = make_trainer(toy_network(), log_period=20)
    trainer.register_hooks([Poison()])
    with pytest.raises(FloatingPointError, match=r"infinite or NaN: model_0000003.pth is not written"):
        run(trainer, 30, tmp_path, checkpoint_period=2)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


def test_hooks_see_the_gradients_before_the_update(tmp_path: Path) -> None:
    class DropGradients(HookBase):
        def after_backward(self) -> None:
            for p in self.trainer.model.edge_head.parameters():
                assert p.grad.any()
                p.grad = None

    model = toy_network()
    before = model.edge_head.weight.detach().clone()
    trainer = make_trainer(model)
    trainer.register_hooks([DropGradients()])
    run(trainer, 2, tmp_path)
    assert torch.equal(model.edge_head.weight, before)


@pytest.mark.parametrize(("option", "value"), [("accumulate_steps", 0), ("accumulate_steps", 2), ("max_bad_steps", 0)])
def test_numbers_that_cannot_be_are_refused_by_their_key(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"SOLVER.MTL.(ACCUMULATE_STEPS|MAX_BAD_STEPS) is {value}"):
        make_trainer(toy_network(), **{option: value})


def test_skipped_images_are_warned_of_once_counted_and_kept_over_a_resume(tmp_path: Path, caplog) -> None:
    def load(start: int):
        for batch in batches(start):
            batch[0]["skipped_files"] = ["broken.png"]
            yield batch

    with caplog.at_level(logging.WARNING):
        first = make_trainer(toy_network(), load=load)
        run(first, 3, tmp_path)
    assert first.skipped_images == {"broken.png": 3}
    assert sum("broken.png" in message for message in caplog.messages) == 1
    second = make_trainer(toy_network(), load=load)
    run(second, 5, tmp_path, resume=True)
    assert second.skipped_images == {"broken.png": 5}


def test_metrics_are_means_of_the_period(tmp_path: Path) -> None:
    trainer = make_trainer(toy_network(), log_period=2)
    seen = []
    forward = trainer.model.forward
    trainer.model.forward = lambda batch: seen.append(forward(batch)) or seen[-1]
    run(trainer, 4, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    written = [line["loss_edge"] for line in lines if "loss_edge" in line]
    values = [float(losses["loss_edge"].detach()) for losses in seen]
    assert written == pytest.approx([sum(values[:2]) / 2, sum(values[2:]) / 2])


def test_a_loader_that_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the training loader ended at iteration 1"):
        run(make_trainer(toy_network(), load=lambda start: [next(batches(start))]), 3, tmp_path)


@pytest.mark.parametrize("dataset", ["", "val/"])  # the second of several test sets
def test_the_best_weights_have_the_lowest_figure_where_the_task_says_so(dataset: str, tmp_path: Path) -> None:
    figures = iter([0.5, 0.2, 0.8])
    model = toy_network()
    model.branches["edge"].metric, model.branches["edge"].higher_is_better = "depth/abs_rel", False
    options = {"best_metric": f"{dataset}depth/abs_rel", "eval_period": 1}

    def evaluate() -> dict:
        results = {"depth": {"abs_rel": next(figures)}}
        return {"val": results} if dataset else results

    run(make_trainer(model), 3, tmp_path, evaluate=evaluate, **options)
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["figure"]["value"] == 0.2


def test_the_best_weights_are_kept_and_remembered(tmp_path: Path) -> None:
    figures = iter([0.5, 0.8, 0.3, 0.6, 0.7])
    options = {
        "evaluate": lambda: {"segm": {"AP": next(figures)}},
        "best_metric": "segm/AP",
        "eval_period": 1,
    }
    run(make_trainer(toy_network()), 3, tmp_path, **options)
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["figure"] == {"metric": "segm/AP", "value": 0.8, "iteration": 1}
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    run(make_trainer(toy_network()), 5, tmp_path, resume=True, **options)
    again = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert again["figure"]["value"] == 0.8
    assert "trainer" not in again
    assert unwrap(toy_network()).state_dict().keys() == again["model"].keys()
