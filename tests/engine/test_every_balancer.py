"""What holds for every balancer in the trainer's step: ranks, parts, resume, absent tasks, precision, frozen parts."""

import copy
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from torch import nn

from mtl_d2.balancing import BALANCER_REGISTRY, GradientBalancer, build_balancer
from mtl_d2.engine.launch import create_ddp, launch
from mtl_d2.engine.stopwatch import Stopwatch
from mtl_d2.engine.task_schedule import TaskSchedule
from mtl_d2.engine.task_schedule_hook import TaskScheduleHook
from mtl_d2.engine.trainer import MultiTaskTrainer
from mtl_d2.testing import ALL_TASKS, tiny_cfg

from .toy import labelled_images, multitask_network

STEPS, SEED = 5, 5
METHODS = sorted(name for name, _ in BALANCER_REGISTRY)
GRADIENT_METHODS = [
    *("pcgrad", "mgda", "cagrad", "imtl_g", "nash_mtl", "aligned_mtl", "upgrad", "gradnorm"),
]
CASES = {name: {} for name in METHODS}
CASES |= {f"{name} on parameters": {"CUT": "parameters", "PERIOD": 1} for name in GRADIENT_METHODS}
CASES |= {
    "upgrad in every second step": {"PERIOD": 2},
    "mgda on parameters, seldom": {"CUT": "parameters", "PERIOD": 2},
}


def make_balancer(case: str) -> nn.Module:
    """As a config builds it, with periods that are over within the test."""
    node = "MODEL.MTL.BALANCER"
    options = {f"{node}.GRADIENT.{key}": value for key, value in CASES[case].items()}
    name = case.split(maxsplit=1)[0]
    short = {f"{node}.DWA.PERIOD": 1, f"{node}.STCH.WARMUP": 1, f"{node}.WEIGHTS.edge": 0.7}
    cfg = tiny_cfg(ALL_TASKS, **{f"{node}.NAME": name, **short, **options})
    return build_balancer(cfg, ALL_TASKS, ALL_TASKS)


def labels(step: int, rank: int) -> tuple[str, ...]:
    """In steps 1 and 4 rank 1 (or part 1) has no edges, in step 2 nobody has."""
    return ALL_TASKS[:2] if step == 2 or (step, rank) in ((1, 1), (4, 1)) else ALL_TASKS


def ignored(step: int, rank: int) -> tuple[str, ...]:
    """In step 0 rank 1 (or part 1) has edges, all of them ignored, in step 3 everybody has."""
    return ("edge",) if step == 3 or (step, rank) == (0, 1) else ()


def shards(*ranks: int) -> Callable[[int], Iterator[list[dict]]]:
    def images(step: int, rank: int) -> list[dict]:
        return labelled_images(step, rank, labels(step, rank), ignored=ignored(step, rank))

    def load(start: int) -> Iterator[list[dict]]:
        for step in range(start, 100):
            yield [image for rank in ranks for image in images(step, rank)]

    return load


WITH_COSINES = ("fixed", "upgrad")
FROZEN_AT_FIRST = ("fixed", "gradnorm", "nash_mtl", "mgda on parameters, seldom")


def make_trainer(
    case: str, load: Callable | None = None, freeze: str = "", frozen_steps: int = 0, **options
) -> MultiTaskTrainer:
    """``freeze``: the start of names of parameters; ``frozen_steps``: of the backbone by a schedule."""
    model = multitask_network(make_balancer(case))
    for name, p in model.named_parameters():
        p.requires_grad_(not (freeze and name.startswith(freeze)))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    entry = {"PART": "backbone", "FROM": 0, "TO": frozen_steps}
    schedule = TaskSchedule(tasks=ALL_TASKS, max_iter=100, freeze=[entry] if frozen_steps else ())
    hook = TaskScheduleHook(schedule, model)
    trainer = MultiTaskTrainer(create_ddp(model), load or shards(0, 1), optimizer, seed=SEED, **options)
    trainer.register_hooks([hook] if frozen_steps else [])
    return trainer


def state(trainer: MultiTaskTrainer) -> dict[str, torch.Tensor]:
    return {key.removeprefix("module."): value.clone() for key, value in trainer.model.state_dict().items()}


def trained(case: str, steps: int = STEPS, **options) -> dict[str, torch.Tensor]:
    trainer = make_trainer(case, **options)
    trainer.train(0, steps)
    return state(trainer)


def _train_all(folder: str) -> None:
    rank, found = comm.get_rank(), {}
    for case in CASES:
        found[case] = trained(case, load=shards(rank))
        found[f"{case} in parts"] = trained(case, load=shards(2 * rank, 2 * rank + 1), accumulate_steps=2)
    for case in FROZEN_AT_FIRST:
        found[f"{case} frozen at first"] = trained(case, load=shards(rank), frozen_steps=2)
    found["cosines"] = {case: _cosines(case, load=shards(rank)) for case in WITH_COSINES}
    found["bad"] = {case: _with_a_bad_rank(case, rank) for case in ("fixed", "famo", "uncertainty", "upgrad")}
    torch.save(found, f"{folder}/{rank}.pth")


def _cosines(case: str, **options) -> dict[str, float]:
    """What is logged of the first step, whose losses differ between ranks."""
    trainer = make_trainer(case, cosine_period=1, **options)
    trainer.train(0, 1)
    return {key: value for key, (value, _) in trainer.storage.latest().items() if key.startswith("cosine/")}


def _with_a_bad_rank(case: str, rank: int) -> dict[str, torch.Tensor | int]:
    """The largest change by a step in which rank 1 meets a NaN, and how often that was."""

    def load(start: int) -> Iterator[list[dict]]:
        for step, batch in zip(range(3), shards(rank)(0), strict=False):
            if (step, rank) == (2, 1):
                batch[0]["instance_label"] = torch.tensor(float("nan"))
            yield batch

    trainer = make_trainer(case, load)
    trainer.train(0, 2)
    before = state(trainer)
    trainer.build_loader = lambda start: (batch for step, batch in enumerate(load(0)) if step == 2)
    trainer.train(2, 3)
    changed = [key for key, value in state(trainer).items() if not torch.equal(value, before[key])]
    return {"changed": len(changed), "skipped": trainer.bad_steps.total, "last": trainer.bad_steps._last}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    launch(_train_all, 2, args=(str(folder),), device="cpu")
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in (0, 1)]


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_their_shards_as_parts(case: str, two_ranks: list[dict]) -> None:
    expected = trained(case, accumulate_steps=2)
    before = multitask_network(make_balancer(case)).state_dict()
    assert any((expected[key] - before[key]).abs().max() > 1e-3 for key in before)
    for rank in two_ranks:
        assert_close(rank[case], expected)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_of_two_parts_equal_one_of_four(case: str, two_ranks: list[dict]) -> None:
    expected = trained(case, load=shards(0, 1, 2, 3), accumulate_steps=4)
    assert_close(two_ranks[0][f"{case} in parts"], expected)


@pytest.mark.parametrize("case", WITH_COSINES)
def test_cosines_are_those_of_the_global_batch(case: str, two_ranks: list[dict]) -> None:
    """Of several parts, and so of several ranks: the inner products are sums over all images."""
    expected = _cosines(case, accumulate_steps=2)
    assert len(expected) == 3 and expected == pytest.approx(two_ranks[0]["cosines"][case], abs=1e-5)
    one, other = (_cosines(case, load=shards(rank)) for rank in (0, 1))
    assert all(max(abs(of_rank[key] - expected[key]) for key in expected) > 1e-3 for of_rank in (one, other))


@pytest.mark.parametrize("case", FROZEN_AT_FIRST)
def test_two_processes_equal_one_where_the_backbone_is_frozen_at_first(case: str, two_ranks: list[dict]) -> None:
    expected = trained(case, accumulate_steps=2, frozen_steps=2)
    assert not torch.equal(expected["backbone.stem.weight"], trained(case, 2, frozen_steps=2)["backbone.stem.weight"])
    for rank in two_ranks:
        assert_close(rank[f"{case} frozen at first"], expected)


@pytest.mark.parametrize("case", ["fixed", "famo", "uncertainty", "upgrad"])
def test_a_nan_on_one_rank_is_a_step_that_no_rank_takes(case: str, two_ranks: list[dict]) -> None:
    for rank in two_ranks:
        found = rank["bad"][case]
        assert found["changed"] == 0 and found["skipped"] == 1
        assert "iteration=2 on rank 1: loss_instance (task 'instance') = nan" in found["last"]


@pytest.mark.parametrize("case", CASES)
def test_resumed_at_half_equals_uninterrupted_bit_for_bit(case: str) -> None:
    options = {"accumulate_steps": 2}
    expected = trained(case, 4, **options)
    first = make_trainer(case, **options)
    first.train(0, 2)
    file = io.BytesIO()
    torch.save({"model": first.model.state_dict(), "trainer": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    torch.manual_seed(77)
    second = make_trainer(case, **options)
    second.model.load_state_dict(saved["model"])
    second.load_state_dict(saved["trainer"])
    second.train(2, 4)
    found = state(second)
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


@pytest.mark.parametrize("case", CASES)
def test_an_absent_task_changes_nothing_of_its_state(case: str) -> None:
    trainer = make_trainer(case)
    trainer.train(0, 2)
    before = copy.deepcopy(trainer.model.balancer.state_dict())
    trainer.train(2, 3)  # nobody has edges
    row = ALL_TASKS.index("edge")
    for key, value in trainer.model.balancer.state_dict().items():
        if key.endswith(".edge"):
            assert torch.equal(value, before[key]), key
        elif value.shape[:1] == (len(ALL_TASKS),):
            assert torch.equal(value[row], before[key][row]), key


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("dwa", "rlw")])  # which share out a sum
@pytest.mark.parametrize("parts", [1, 2])
def test_labels_that_are_all_ignored_are_as_absent_ones(case: str, parts: int) -> None:
    def load(of_last: dict) -> Iterator[list[dict]]:
        for step in range(3):
            yield labelled_images(step, 0, size=4, **(of_last if step == 2 else {}))

    # A period of 2 has its last refresh in step 2.
    found, expected = (
        trained(case, 3, load=lambda start, last=last: load(last), accumulate_steps=parts)
        for last in ({"ignored": ("edge",)}, {"labels": ALL_TASKS[:2]})
    )
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("case", CASES)
def test_bf16_updates_the_backbone_as_float32_does(case: str) -> None:
    before, updates = state(make_trainer(case)), []
    for dtype in ("bfloat16", None):
        trainer = make_trainer(case, amp_dtype=dtype)
        trainer.train(0, 1)
        assert trainer.bad_steps.total == 0
        after = state(trainer)
        updates.append(torch.cat([(after[k] - before[k]).flatten() for k in before if k.startswith("backbone")]))
    # bfloat16 has 8 bits, which the mean over pixels makes an error of 0.3 %.
    assert 0 < (updates[0] - updates[1]).norm() < 0.02 * updates[1].norm()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parts", [1, 2])
def test_losses_that_are_scaled_as_for_float16_train_as_others_do(case: str, parts: int) -> None:
    found = []
    for scaler in (None, torch.amp.GradScaler("cpu")):
        trainer = make_trainer(case, accumulate_steps=parts, cosine_period=1)
        trainer.precision.scaler = scaler
        trainer.train(0, 2)
        cosines = {k: torch.tensor(v) for k, (v, _) in trainer.storage.latest().items() if k.startswith("cosine/")}
        assert len(cosines) == 3 and trainer.bad_steps.total == 0
        found.append({**state(trainer), **cosines})
    assert_close(found[1], found[0])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("freeze", ["backbone.stem", "backbone", "edge_head"])
def test_frozen_parts_stay_and_the_rest_is_trained(case: str, freeze: str) -> None:
    before = multitask_network(make_balancer(case)).state_dict()
    after = trained(case, 2, freeze=freeze)
    for key in (k for k in before if "head" in k or "backbone" in k):
        assert torch.equal(after[key], before[key]) == key.startswith(freeze), key


@pytest.mark.parametrize("case", CASES)
def test_what_it_weighs_and_what_that_costs_is_logged(case: str) -> None:
    trainer = make_trainer(case)
    trainer.train(0, 1)
    logged, fixed = trainer.storage.latest(), make_trainer("fixed")
    fixed.train(0, 1)
    for task in ALL_TASKS:  # losses without the prior weight, with any method
        assert f"balance/{task}" in logged and logged[f"task/{task}"][0] > 0
        assert logged[f"task/{task}"][0] == pytest.approx(fixed.storage.latest()[f"task/{task}"][0])
    assert logged["balance_seconds"][0] > 0


@pytest.mark.parametrize("case", ["fixed", "gradnorm", "mgda on parameters, seldom"])
def test_a_logged_weight_holds_the_prior_one(case: str) -> None:
    trainer = make_trainer(case)
    trainer.train(1, 2)  # before a refresh all weights are 1, and those of gradnorm in its first step
    found = [trainer.storage.latest()[f"balance/{task}"][0] for task in ALL_TASKS]
    assert found == pytest.approx([1, 1, 0.7])


@pytest.mark.parametrize("parts", [1, 2])
def test_the_price_of_famo_has_its_second_forward_pass(parts: int) -> None:
    trainer = make_trainer("famo", accumulate_steps=parts)
    task_losses = trainer.model.task_losses
    trainer.model.task_losses = lambda *args: time.sleep(0.05) or task_losses(*args)
    trainer.train(0, 1)
    assert trainer.storage.latest()["balance_seconds"][0] >= parts * len(ALL_TASKS) * 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_price_on_a_gpu_is_that_of_the_work_and_makes_nobody_wait() -> None:
    watch = Stopwatch("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(10**9)  # not in the block
        with watch.running():
            torch.cuda._sleep(10**8)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert 0.01 < float(watch) < 0.3


@pytest.mark.parametrize(
    "case", ["fixed", "famo", "dwa", "upgrad", "mgda on parameters", "upgrad in every second step"]
)
@pytest.mark.parametrize("parts", [1, 2])
def test_cosines_are_logged_without_a_trace_in_the_weights(case: str, parts: int) -> None:
    expected = trained(case, accumulate_steps=parts)
    trainer = make_trainer(case, accumulate_steps=parts, cosine_period=1)
    trainer.train(0, STEPS)
    found, logged = state(trainer), trainer.storage.latest()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    assert 0 < abs(logged["cosine/instance/sem_seg"][0]) <= 1


def test_the_methods_of_gradients_are_all_here() -> None:
    found = [name for name in METHODS if isinstance(make_balancer(name), GradientBalancer)]
    assert sorted(found) == sorted(GRADIENT_METHODS)
